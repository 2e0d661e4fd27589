"""A target that moves: the newest records alone make its state, whatever portions they came in."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from dugs_stream.core.value import NoDirectionError, half_life_weights, mean_gradient
from dugs_stream.pipeline import moving_target
from dugs_stream.pipeline.decode import BatchAbandonedError, DecodePool, Outcome
from dugs_stream.pipeline.moving_target import Course, Listeners, MovingTarget
from dugs_stream.pipeline.project import RecordProjector
from dugs_stream.pipeline.target import Target
from dugs_stream.pipeline.target_arrivals import Arrivals
from dugs_stream.records import Record
from tests.support.waiting import wait_until
from tests.unit.pipeline.engine import projected, projector_of, random_records, record

RECORDS, HALF_LIFE = 12, 4
TILE = 8

probed_projector = cache(projector_of)
"""One for all tests that may share it: a probe takes a third of a second."""


class Moved:
    """A moving target, and all that it told."""

    def __init__(self, projector: RecordProjector | None = None, records: int = RECORDS) -> None:
        self.projector = projector or probed_projector()
        self.arrivals = Arrivals(records, 2**20)
        course = Course("topic:wanted", records, HALF_LIFE, "balanced")
        decoding = DecodePool(self.projector.decode)
        self.target = MovingTarget(course, "sha256:model", decoding, self.projector, self.arrivals)
        self.states: list[Target | None] = []
        self.reasons: list[str] = []
        self.left_out: list[tuple[int, str]] = []
        self.target.listeners = Listeners(
            lambda target, why: (self.states.append(target), self.reasons.append(why))[0],  # type: ignore[func-returns-value]
            lambda records, why: self.left_out.append((records, why)),
        )

    def offer(self, records: Iterable[Record]) -> None:
        """They came on the topic."""
        for each in records:
            self.arrivals.offer(each, lambda: False)

    def catch_up(self) -> Target | None:
        """Take in all that came; the state then."""
        while self.target.take_in(lambda: False, is_idle=True):
            pass
        return self.states[-1]

    def begun_with(self, records: Sequence[Record], partitions: int = 1) -> Target:
        """The state of one that reads these at its start."""
        self.target.begin_with(records, partitions)
        return self.target.target()


def same(one: Target | None, other: Target) -> bool:
    """The same state, to the last bit."""
    return (
        one is not None
        and one.digest == other.digest
        and np.array_equal(one.mean.direction, other.mean.direction)
        and one.mean.own_value == other.mean.own_value
        and one.newest == other.newest
    )


def test_state_is_the_weighted_mean_of_the_newest_records() -> None:
    """Their own gradients, the later the heavier; the fixed target of the same records is another one."""
    records, projector = random_records(20), projector_of()

    found = Moved(projector).begun_with(records[-RECORDS:])

    gradients = projected(projector, records[-RECORDS:]).projection
    expected = mean_gradient(
        gradients.vectors, gradients.norms, "balanced", half_life_weights(RECORDS, HALF_LIFE)
    )
    assert np.array_equal(found.mean.direction, expected.direction)
    assert (found.mean.samples, found.newest, found.newest_ms) == (RECORDS, {0: 19}, None)
    assert found.series == "topic:wanted half_life=4 records=12 mean=balanced"
    assert projector.first_labels.agreement.records == RECORDS, "those of the stream alone"


@pytest.mark.parametrize("portions", [(20,), (1, 19), (1, 1, 10, 8)])
def test_same_records_make_the_same_state_in_any_portions(portions: Sequence[int]) -> None:
    """As a process that starts now reads them: digest, direction and own value are equal to the last bit."""
    records = random_records(20)
    moved, remaining = Moved(), iter(records)
    for portion in portions:
        moved.offer(next(remaining) for _ in range(portion))
        moved.catch_up()

    assert same(moved.states[-1], Moved().begun_with(records[-RECORDS:]))
    digests = [each.digest for each in moved.states if each is not None]
    assert len(set(digests)) == len(digests), "each state has its own"
    assert not same(Moved().begun_with(records[-RECORDS:][::-1]), Moved().begun_with(records[-RECORDS:]))


def test_partitions_have_equal_shares_in_the_order_of_their_timestamps() -> None:
    """Whatever order they were read in; the newest of a partition that floods take nothing from another's."""
    records = [
        replace(each, partition=number % 2, offset=number // 2, timestamp_ms=1000 + number)
        for number, each in enumerate(random_records(30))
    ]
    flood, rare = (
        [each for each in records if each.partition],
        [each for each in records if not each.partition],
    )
    by_time = Moved()
    by_time.arrivals.topic_found(2, is_another=False)
    by_time.offer(records)
    by_partition = Moved()
    by_partition.arrivals.topic_found(2, is_another=False)
    by_partition.offer([*rare[:3], *flood])

    newest = by_time.catch_up()

    assert newest is not None
    assert newest.newest == {0: 14, 1: 14}
    assert newest.newest_ms == 1029
    begun = Moved().begun_with([*rare[-6:], *flood[-6:]], partitions=2)
    assert same(newest, begun)
    last = by_partition.catch_up()
    assert last is not None
    assert (last.mean.samples, last.newest) == (9, {0: 2, 1: 14})


def test_records_without_a_gradient_are_left_out_and_counted() -> None:
    """They take a place in the window, and none in the mean; a topic of nothing else is no target until one comes."""
    good = random_records(3)
    bad = [replace(each, value=b"torn", offset=10 + at) for at, each in enumerate(random_records(RECORDS))]
    moved = Moved()
    moved.offer([*good, bad[0]])

    some = moved.catch_up()
    moved.offer(bad[1:])
    none = moved.catch_up()
    moved.offer([replace(good[0], offset=50)])
    again = moved.catch_up()

    assert some is not None
    assert same(replace(some, newest={0: 2}), Moved().begun_with(good))
    assert some.left_out == 1
    assert sum(count for count, _ in moved.left_out) == RECORDS
    assert moved.left_out[0][1].startswith("in/0/10: ")
    assert none is None
    assert "none of its records has a gradient" in moved.reasons
    assert again is not None
    assert again.mean.samples == 1


def test_topic_made_anew_voids_what_was_known() -> None:
    """Also if nothing is on it yet: what its newest records are is not what the old one's were."""
    moved, records = Moved(), random_records(9)
    moved.offer(records[:6])
    moved.catch_up()
    moved.offer(records[:1])
    moved.arrivals.topic_found(1, is_another=True)

    emptied = moved.catch_up()
    moved.offer(records[6:])

    assert emptied is None
    assert moved.reasons[-1] == "it holds no records"
    assert same(moved.catch_up(), Moved().begun_with(records[6:]))


def test_stream_waits_for_one_tile_and_the_target_rests_after_it() -> None:
    """However much comes on the topic: nine tenths of a busy stage's time stay the stream's."""
    moved = Moved(records=100)
    moved.offer(random_records(50))

    assert moved.target.take_in(lambda: False, is_idle=False)
    assert [state and state.mean.samples for state in moved.states] == [TILE]
    assert not moved.target.take_in(lambda: False, is_idle=False)
    assert moved.target.has_news
    assert moved.target.take_in(lambda: False, is_idle=True), "an idle stage has time"


def test_portion_that_was_abandoned_is_taken_in_later() -> None:
    """A stop or a rebalance between two tiles loses none of its records, and changes no state."""
    moved, records = Moved(), random_records(5)
    moved.offer(records)

    assert not moved.target.take_in(lambda: True, is_idle=True)

    assert moved.states == []
    assert same(moved.catch_up(), Moved().begun_with(records))


class Slow:
    """In place of a codec: some records hang for so many seconds of a clock that is turned by hand."""

    def __init__(
        self, moved: Moved, monkeypatch: pytest.MonkeyPatch, hanging: Sequence[int], seconds: float
    ) -> None:
        self.now = 1000.0
        self.begun: list[int] = []
        self._hanging, self._seconds = hanging, seconds
        self._decode = moved.projector.decode
        monkeypatch.setattr(moving_target, "monotonic", lambda: self.now)
        pool = DecodePool(self)
        pool.chunk_bytes = 1  # each record by itself, in this thread
        moved.target._decoding = pool

    def __call__(self, records: Sequence[Record]) -> Sequence[Outcome]:
        """As the projector's."""
        self.begun += [each.offset for each in records]
        self.now += self._seconds * sum(each.offset in self._hanging for each in records)
        return self._decode(records)


def test_codec_that_hangs_on_the_target_holds_the_stream_up_for_a_while_and_never_for_good(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A portion that takes too long is given up, tried again by halves, and the stream has nine times as long for itself."""
    moved, records = Moved(records=100), random_records(TILE)
    slow = Slow(moved, monkeypatch, hanging=(1, 2, 3), seconds=30.0)
    moved.offer(records)
    turns: list[tuple[float, float]] = []
    while moved.target.has_news:
        began_at, begun = slow.now, len(slow.begun)
        moved.target.take_in(lambda: False, is_idle=False)
        turns.append((began_at, slow.now - began_at))
        assert begun < len(slow.begun), "it is a busy stage's turn"
        if slow.now - began_at > 10:
            assert not moved.target.take_in(lambda: False, is_idle=True), (
                "the next record is not to wait as well"
            )
        slow.now += 9 * (slow.now - began_at)

    assert max(seconds for _, seconds in turns) <= 30
    assert same(moved.states[-1], Moved().begun_with(records))


def test_one_portion_at_a_time_is_with_a_codec_that_hangs() -> None:
    """Or one after the other would take all of its processes from the stream."""
    moved, records = Moved(), random_records(TILE)
    is_open, begun, decode = threading.Event(), threading.Event(), moved.projector.decode

    def hangs(records: Sequence[Record]) -> Sequence[Outcome]:
        begun.set()
        assert is_open.wait(30)
        return decode(records)

    pool = DecodePool(hangs, threads=2, chunk_bytes=None)
    moved.target._decoding = pool
    moved.offer(records)
    assert not moved.target.take_in(begun.is_set, is_idle=True)
    begun.clear()

    assert not moved.target.take_in(lambda: False, is_idle=True)
    assert not begun.is_set()
    is_open.set()
    wait_until(lambda: moved.target.take_in(lambda: False, is_idle=True), 30)

    assert same(moved.catch_up(), Moved().begun_with(records))
    pool.close()


def test_record_that_takes_too_long_alone_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a log that takes an owner that does not poll for dead would have the stream begin anew, without end."""
    moved, records = Moved(), random_records(3)
    slow = Slow(moved, monkeypatch, hanging=(1,), seconds=100.0)
    moved.offer(records)

    for _ in range(10):
        moved.target.take_in(lambda: False, is_idle=True)
        slow.now += 1000

    last = moved.states[-1]
    assert last is not None
    assert (last.mean.samples, last.left_out, last.why) == (2, 1, "in/0/1: it took longer than 60 s")
    assert slow.begun.count(1) <= 3


def test_memory_that_runs_out_leaves_records_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream goes on; an error of anything else is the model's and is raised."""
    moved = Moved()
    moved.offer(random_records(3))
    errors: list[Exception] = [MemoryError(), BatchAbandonedError(), RuntimeError("the device is gone")]

    def fails(*_arguments: Any, **_settings: Any) -> Any:
        raise errors[0]

    monkeypatch.setattr(moved.projector, "project", fails)
    assert moved.catch_up() is None
    assert moved.left_out == [
        (3, "in/0/0: memory ran out over it and its neighbours (MemoryError)"),
    ]
    with pytest.raises(NoDirectionError, match="none of its records"):
        Moved(moved.projector).begun_with(random_records(2))
    moved.offer([record(7, np.zeros(1, np.float32))])
    errors.pop(0)
    assert not moved.target.take_in(lambda: False, is_idle=True)
    errors.pop(0)
    with pytest.raises(RuntimeError, match="device is gone"):
        moved.target.take_in(lambda: False, is_idle=True)


def test_record_that_the_model_fails_on_is_left_out() -> None:
    """Even if it is the first that the model ever sees, at a start too: the stream is not to end for a record of somebody
    else's, and not to be kept from starting again.
    """
    records = [record(0, np.zeros((3, 5), np.float32)), *random_records(9)[1:]]
    moved = Moved(projector_of())
    moved.offer(records)

    target = moved.catch_up()

    assert target is not None
    assert (target.mean.samples, target.left_out) == (8, 1)
    assert same(target, Moved(projector_of()).begun_with(records))
    with pytest.raises(NoDirectionError, match="it holds no records"):
        Moved().begun_with([])
