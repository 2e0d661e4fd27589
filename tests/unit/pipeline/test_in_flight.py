"""The queue of micro-batches in flight: order, failures, discarding, and the thread that projects."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any, cast

import pytest
import torch

from dugs_stream.log.port import Polled
from dugs_stream.pipeline.decode import BatchAbandonedError, DecodedBatch, DecodePool
from dugs_stream.pipeline.in_flight import ProjectionQueue
from dugs_stream.pipeline.project import RecordProjector
from dugs_stream.records import Record
from tests.support.waiting import wait_until

SECONDS = 30.0

Work = Callable[[DecodedBatch, Callable[[], bool]], object]


class Projector:
    """In place of a RecordProjector: what a test wants to happen in the thread that projects."""

    found = None
    first_labels = type("Labels", (), {"agreement": (0, 0, 0)})

    def __init__(self, work: Work) -> None:
        self._work = work

    def project(
        self,
        batch: DecodedBatch,
        should_abandon: Callable[[], bool],
        *,
        model_is_proven: bool,
        keeps_samples: bool,
    ) -> object:
        """As the projector's."""
        assert model_is_proven
        assert not keeps_samples
        return self._work(batch, should_abandon)


class Upkeep:
    """In place of a target that moves: so many turns of work, and who took them."""

    def __init__(self, turns: int = 0) -> None:
        self.turns = turns
        self.taken: list[tuple[str, bool]] = []
        self.error: Exception | None = None

    @property
    def has_news(self) -> bool:
        """Whether there are any."""
        return self.turns > 0

    def take_in(self, should_abandon: Callable[[], bool], *, is_idle: bool) -> bool:
        """Take one."""
        if self.error is not None:
            raise self.error
        if not self.turns or should_abandon():
            return False
        self.turns -= 1
        self.taken.append((threading.current_thread().name, is_idle))
        return True


Opener = Callable[..., ProjectionQueue]


@pytest.fixture
def opened() -> Iterator[Opener]:
    """Opens queues, and closes them."""
    queues: list[ProjectionQueue] = []

    def open_queue(
        work: Work,
        *,
        longest_seconds: float = SECONDS,
        is_beside: bool = True,
        upkeep: Upkeep | None = None,
        alive: Callable[[], None] = lambda: None,
    ) -> ProjectionQueue:
        queue = ProjectionQueue(
            DecodePool(lambda records: [None] * len(records)),  # type: ignore[arg-type,return-value]
            cast("RecordProjector", Projector(work)),
            longest_seconds=longest_seconds,
            is_impatient=lambda: False,
            alive=alive,
            waiting=lambda _stage: nullcontext(),
            is_beside=is_beside,
            upkeep=upkeep,
        )
        queues.append(queue)
        return queue

    yield open_queue
    for queue in queues:
        queue.discard(lambda: None)
        queue.close()


def submit(queue: ProjectionQueue, *offsets: int) -> None:
    """A micro-batch of one record for each."""
    for offset in offsets:
        record = Record(None, b"", topic="in", partition=0, offset=offset)
        queue.submit(Polled((record,), {0: offset + 1}), 1, model_is_proven=True)


def result_of_oldest(queue: ProjectionQueue) -> Any:
    """What is projected of the oldest in flight."""
    assert queue.is_ready(SECONDS)
    return queue.result(queue.take()).batch


def offset_of(batch: DecodedBatch, _should_abandon: Callable[[], bool]) -> int:
    """The first one's."""
    return batch.records[0].offset


@pytest.mark.parametrize("is_beside", [True, False])
def test_results_come_in_the_order_of_submission(opened: Opener, *, is_beside: bool) -> None:
    """In a thread of their own, or with no prefetch in the caller's."""
    queue = opened(offset_of, is_beside=is_beside)

    submit(queue, 3, 4, 5)

    assert [result_of_oldest(queue) for _ in range(3)] == [3, 4, 5]
    assert not queue.batches


def test_thread_computes_as_the_one_that_made_it(opened: Opener) -> None:
    """PyTorch keeps its default device for each thread: a factory that set one would fail in another."""
    queue = opened(
        lambda *_: (threading.current_thread().name, torch.get_default_device(), torch.get_num_threads())
    )
    before, threads = torch.get_default_device(), torch.get_num_threads()
    torch.set_default_device("meta")
    torch.set_num_threads(threads + 1)
    try:
        submit(queue, 1)
        name, device, count = result_of_oldest(queue)
    finally:
        torch.set_default_device(before)
        torch.set_num_threads(threads)

    assert (name, device.type, count) == ("dugs-project_0", "meta", threads + 1)


def test_nothing_is_projected_after_a_failure_until_all_is_discarded(opened: Opener) -> None:
    """What failed will be decided again first; a broken device fails every batch."""
    seen: list[int] = []

    def fail_once(batch: DecodedBatch, _should_abandon: object) -> int:
        seen.append(batch.records[0].offset)
        if len(seen) == 1:
            raise MemoryError("no room")
        return seen[-1]

    queue = opened(fail_once)
    submit(queue, 1, 2)
    with pytest.raises(MemoryError):
        result_of_oldest(queue)
    with pytest.raises(BatchAbandonedError):
        result_of_oldest(queue)
    queue.discard(lambda: None)

    submit(queue, 1)

    assert result_of_oldest(queue) == 1
    assert seen == [1, 1]


def test_discard_waits_for_the_tile_in_hand_and_begins_nothing_more(opened: Opener) -> None:
    """The one in hand gives up between two tiles; while that takes, the waiting thread may show that it lives."""
    begun, may_end, seen, looks = threading.Event(), threading.Event(), [0], [0]

    def two_tiles(_batch: DecodedBatch, should_abandon: Callable[[], bool]) -> None:
        seen[0] += 1
        begun.set()
        assert may_end.wait(SECONDS)
        if should_abandon():
            raise BatchAbandonedError

    def look() -> None:
        looks[0] += 1
        may_end.set()

    queue = opened(two_tiles)
    submit(queue, 1, 2, 3)
    assert begun.wait(SECONDS)

    queue.discard(look)

    assert (seen, looks, list(queue.batches)) == ([1], [1], [])


def test_batch_that_takes_too_long_gives_up_between_two_tiles(opened: Opener) -> None:
    """Its own time counts, from the moment it is begun."""

    def endless(_batch: DecodedBatch, should_abandon: Callable[[], bool]) -> None:
        wait_until(should_abandon, SECONDS)
        raise BatchAbandonedError

    queue = opened(endless, longest_seconds=0.05)

    submit(queue, 1)

    with pytest.raises(BatchAbandonedError):
        result_of_oldest(queue)


def test_only_another_tile_counts_as_moving(opened: Opener) -> None:
    """A device that hangs must not pass for alive."""
    may_go_on, has_gone_on, may_end = threading.Event(), threading.Event(), threading.Event()

    def hang(_batch: DecodedBatch, should_abandon: Callable[[], bool]) -> None:
        assert may_go_on.wait(SECONDS)
        should_abandon()
        has_gone_on.set()
        assert may_end.wait(SECONDS)

    queue = opened(hang)
    submit(queue, 1)
    assert not queue.is_ready(0.01)
    assert not queue.has_moved()

    may_go_on.set()
    assert has_gone_on.wait(SECONDS)

    assert (queue.has_moved(), queue.has_moved()) == (True, False)
    may_end.set()


@pytest.mark.parametrize("is_beside", [True, False])
def test_upkeep_has_its_turn_before_each_batch_in_the_thread_that_projects(
    opened: Opener, *, is_beside: bool
) -> None:
    """One turn, however much there is: the projector is one thread's, and the batch waits for no more."""
    upkeep = Upkeep(turns=100)
    queue = opened(offset_of, is_beside=is_beside, upkeep=upkeep)

    submit(queue, 3, 4)

    assert [result_of_oldest(queue) for _ in range(2)] == [3, 4]
    thread = "dugs-project_0" if is_beside else threading.current_thread().name
    assert upkeep.taken == [(thread, False)] * 2


def test_upkeep_uses_idle_time_and_gives_way_to_a_batch(opened: Opener) -> None:
    """All of it while nothing is in flight; nothing is begun for it while there is nothing to do."""
    upkeep = Upkeep(turns=3)
    queue = opened(offset_of, upkeep=upkeep)

    queue.use_idle_time()
    wait_until(lambda: not upkeep.turns, SECONDS)
    assert upkeep.taken == [("dugs-project_0", True)] * 3
    submit(queue, 1)
    upkeep.turns = 5
    queue.use_idle_time()
    assert result_of_oldest(queue) == 1
    assert len(upkeep.taken) <= 4, "in flight, idle time is not used"

    alive: list[None] = []
    in_this_thread = opened(
        offset_of, is_beside=False, upkeep=Upkeep(turns=2), alive=lambda: alive.append(None)
    )
    in_this_thread.use_idle_time()
    assert alive, "the thread of the log is the one that works, and must not pass for dead"
    assert in_this_thread._upkeep.taken == [(threading.current_thread().name, True)]  # type: ignore[union-attr]


def test_upkeep_that_fails_is_raised_and_stops_what_comes_after_it(opened: Opener) -> None:
    """A broken device: as the projection itself would fail."""
    upkeep = Upkeep(turns=1)
    upkeep.error = ValueError("the device is gone")
    queue = opened(offset_of, upkeep=upkeep)
    submit(queue, 1, 2)

    with pytest.raises(ValueError, match="device is gone"):
        result_of_oldest(queue)
    with pytest.raises(BatchAbandonedError):
        result_of_oldest(queue)
    queue.discard(lambda: None)

    def is_raised() -> bool:
        queue.use_idle_time()
        return False

    with pytest.raises(ValueError, match="device is gone"):
        wait_until(is_raised, SECONDS)
