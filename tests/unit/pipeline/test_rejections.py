"""When a stream of rejections is the settings' fault, and when it is not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from dugs_stream.errors import StreamRejectedError
from dugs_stream.pipeline.rejections import RejectionGuard
from dugs_stream.records import Decision, JudgedRecord, Reason, Record, Rejection, Verdict


def judged(reasons: Sequence[Reason | None], start: int = 0) -> list[JudgedRecord]:
    """Records rejected for these reasons; None is one that was not."""
    return [
        JudgedRecord(
            Record(None, b"x", topic="in", partition=0, offset=start + at),
            Decision(Verdict.DUPLICATE)
            if reason is None
            else Decision(Verdict.REJECTED, rejection=Rejection(reason, "not an image")),
            0,
            0.3,
        )
        for at, reason in enumerate(reasons)
    ]


BAD = [Reason.UNDECODABLE]


@pytest.mark.parametrize("batch", [1, 5, 32, 100])
@pytest.mark.parametrize("reason", Reason)
def test_stream_that_begins_with_rejections_for_one_reason_is_refused(batch: int, reason: Reason) -> None:
    """At the 32nd in any split, naming record, reason, place in the configuration and the way to insist."""
    guard, records = RejectionGuard(), judged([reason] * 100)

    for start in range(0, 31 // batch * batch, batch):
        guard.watch(records[start : start + batch])
        assert guard.suspects
    with pytest.raises(StreamRejectedError) as refused:
        guard.watch(records[31 // batch * batch :])

    for part in ("first 32 records", reason.value, "in/0/0: not an image", "input.may_reject_all: true"):
        assert part in str(refused.value)


@pytest.mark.parametrize(
    "reasons",
    [
        BAD * 31,
        [*BAD * 31, None, *BAD * 100],
        [Reason.EMPTY, Reason.UNDECODABLE] * 50,
        [*BAD * 20, *[Reason.EMPTY] * 20, *BAD * 20],
    ],
    ids=["few", "one accepted", "two reasons in turn", "two reasons after each other"],
)
def test_other_streams_go_on(reasons: list[Reason | None]) -> None:
    """A slow topic whose first records are bad, one good record among them, and bad records of several kinds."""
    for batch in (1, 32, 500):
        guard, records = RejectionGuard(), judged(reasons)
        for start in range(0, len(records), batch):
            guard.watch(records[start : start + batch])


def test_list_that_has_uniques_goes_on_whatever_comes() -> None:
    """The settings have fitted before. Only a model that took no sample yet in this process is held to account."""
    RejectionGuard().watch(judged(BAD * 100), has_accepted=True)
    RejectionGuard().watch(judged([Reason.MODEL_ERROR] * 100), has_accepted=True)

    RejectionGuard().watch(judged(BAD * 100), has_accepted=True, model_has_run=False)
    with pytest.raises(StreamRejectedError):
        RejectionGuard().watch(judged([Reason.MODEL_ERROR] * 32), has_accepted=True, model_has_run=False)


def test_batch_that_comes_again_is_counted_once() -> None:
    """A transaction may be aborted; the same records are no further evidence."""
    guard = RejectionGuard()
    for _ in range(4):
        guard.watch(judged(BAD * 20))

    with pytest.raises(StreamRejectedError):
        guard.watch(judged(BAD * 12, start=20))


def test_operator_may_insist() -> None:
    """If the records are bad indeed."""
    guard = RejectionGuard(may_reject_all=True)
    guard.watch(judged(BAD * 1000))
    assert not guard.suspects
