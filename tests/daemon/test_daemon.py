"""The daemon on the embedded log, end to end: records in, verdicts out, whatever happens in between."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dugs_stream.daemon.steps import Step
from dugs_stream.errors import ChangelogError, StateError
from dugs_stream.records import Message
from tests.support.daemons.deployment import Deployment, as_npy, npy_message, npy_messages
from tests.support.models.small import WIDTH


def test_empty_topic_drains_at_once_and_leaves_a_trailer(tmp_path: Path) -> None:
    """An input without records is decided; the first start is remembered all the same."""
    deployment = Deployment(tmp_path)

    daemon = deployment.drain()

    assert daemon.state.trailer is not None
    assert daemon.state.trailer.next_offsets == {0: 0}
    deployment.check()


@pytest.mark.parametrize("records", [1, 7, 64, 256])
def test_any_micro_batch_gives_the_uniques_of_the_sequential_algorithm(tmp_path: Path, records: int) -> None:
    """Decisions, uniques, dead letters, changelog and state folder tell one story; the batch is a matter of speed."""
    deployment = Deployment(tmp_path, input={"codec": "npy", "batch": {"records": records, "wait_ms": 20}})
    deployment.send(npy_messages(60))

    deployment.drain()

    deployment.check()
    assert len(deployment.events("unique")) > 4


def test_second_run_goes_on_where_the_first_ended(tmp_path: Path) -> None:
    """A restart decides only what is new, against everything that was unique before."""
    deployment = Deployment(tmp_path)
    deployment.send(npy_messages(40))
    deployment.drain()
    before = deployment.events()
    deployment.send(npy_messages(40, seed=1))

    deployment.drain()

    assert deployment.events()[: len(before)] == before
    deployment.check()


def test_bad_records_go_to_the_dead_letters_and_the_stream_goes_on(tmp_path: Path) -> None:
    """Original bytes, key and headers, with the reason; nothing is dropped in silence."""
    bad = [
        Message(b"tombstone", None),
        Message(None, b""),
        Message(b"text", b"not an array", (("label", b"1"), ("trace", b"abc"))),
        Message(b"objects", as_npy(np.array(["a"] * WIDTH, dtype=object)), (("label", b"1"),)),
        npy_message(np.full(WIDTH, np.inf, np.float32)),
        npy_message(np.zeros((2, 2), np.float32)),
        Message(b"no label", as_npy(np.ones(WIDTH, np.float32))),
        Message(b"null label", as_npy(np.ones(WIDTH, np.float32)), (("label", None),)),
        npy_message(np.ones(WIDTH, np.float32), "cat"),
        npy_message(np.ones(WIDTH, np.float32), "4"),
        npy_message(np.ones(WIDTH, np.float32), str(10**9)),
        Message(b"large", b"x" * 300_000, (("label", b"1"),)),
    ]
    deployment = Deployment(
        tmp_path,
        input={"codec": "npy", "max_record_bytes": 200_000, "batch": {"records": 8, "wait_ms": 20}},
        output={"decisions_topic": "dugs.decisions", "max_message_bytes": 100_000},
    )
    good = npy_messages(20)
    deployment.send([*good[:10], *bad, *good[10:]])

    deployment.drain()

    deployment.check()
    reasons = [event["reason"] for event in deployment.events("dead-letter")]
    assert reasons == [
        "empty", "empty", "undecodable", "undecodable", "not_finite", "wrong_shape", "label_missing",
        "label_missing", "label_unknown", "label_out_of_range", "label_out_of_range", "too_large",
    ]  # fmt: skip


def test_deletes_of_a_change_stream_are_counted_and_passed_over(tmp_path: Path) -> None:
    """No dead letter and no event of the list; the offsets go on, and the rows are judged as ever."""
    rows = np.random.default_rng(0).normal(size=(12, WIDTH)).round(3).tolist()
    events: list[dict[str, object] | None] = []
    for place, row in enumerate(rows):
        events.append(
            {"payload": {"op": "c", "before": None, "after": {"input": row, "meta": {"label": place % 4}}}}
        )
        if place % 3 == 0:
            events += [{"payload": {"op": "d", "before": {}, "after": None}}, None]
    deployment = Deployment(
        tmp_path,
        input={
            "codec": "json",
            "label": "json:meta.label",
            "envelope": "debezium",
            "batch": {"records": 5, "wait_ms": 20},
        },
    )
    deployment.send(
        [Message(b"k", None if event is None else json.dumps(event).encode()) for event in events]
    )

    daemon = deployment.drain()

    verdicts = [event["type"] for event in deployment.events()]
    assert (len(verdicts), verdicts.count("skipped")) == (20, 8)
    assert deployment.events("dead-letter") == []
    assert {event["label"] for event in deployment.events("unique")} <= {0, 1, 2, 3}
    assert daemon.state.trailer is not None
    assert daemon.state.trailer.next_offsets == {0: 20}


def test_zero_gradient_is_a_verdict_of_its_own(tmp_path: Path) -> None:
    """With nothing to learn from a record there is no direction to compare, and it never enters the index."""
    deployment = Deployment(tmp_path, selection={"threshold": 0.5, "min_gradient_norm": 1e9})
    deployment.send(npy_messages(5))

    daemon = deployment.drain()

    assert {event["type"] for event in deployment.events()} == {"no_gradient"}
    assert len(daemon.replica.index) == 0


@pytest.mark.parametrize(
    "change",
    [{"gradient": {"dimension": 128}}, {"gradient": {"seed": 5}}, {"model": {"kwargs": {"classes": 3}}}],
)
def test_other_model_or_projection_is_refused_with_the_way_out(tmp_path: Path, change: dict) -> None:
    """Cosines of two models cannot be compared: neither the folder nor the changelog is believed."""
    deployment = Deployment(tmp_path)
    deployment.send(npy_messages(10))
    deployment.drain()
    deployment.write(**change)

    with pytest.raises(StateError, match=r"changelog_topic"):
        deployment.drain()
    deployment.write(state={"dir": str(tmp_path / "new")})
    with pytest.raises(ChangelogError, match=r"changelog_topic"):
        deployment.drain()


def test_two_daemons_on_one_state_folder_are_refused(tmp_path: Path) -> None:
    """The second one learns who holds it."""
    deployment = Deployment(tmp_path)
    deployment.send(npy_messages(10))
    refusals: list[str] = []

    def try_a_second(step: object) -> None:
        if step is Step.POLL and not refusals:
            with pytest.raises(StateError) as refusal:
                deployment.drain()
            refusals.append(str(refusal.value))

    deployment.drain(on_step=try_a_second)

    assert "in use by process" in refusals[0]
    deployment.check()


def test_explain_bound_gives_a_bound_and_the_same_verdicts(tmp_path: Path) -> None:
    """What a unique is near is not searched for; what is a duplicate still is."""
    nearest, bound = Deployment(tmp_path / "nearest"), Deployment(tmp_path / "bound")
    bound.write(selection={"threshold": 0.5, "explain": "bound"})
    for deployment in (nearest, bound):
        deployment.send(npy_messages(50))
        deployment.drain()

    for exact, bounded in zip(nearest.events(), bound.events(), strict=True):
        assert (exact["type"], exact["sequence"]) == (bounded["type"], bounded["sequence"])
        if bounded["type"] == "unique" and exact["similarity"] is not None:
            assert bounded["nearest"] is None
            assert exact["similarity"] <= bounded["similarity_bound"] < 0.5
