"""Records on their way to a target that moves: the newest of each partition, in bounded memory, without waiting."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from dugs_stream.pipeline.target_arrivals import Arrivals
from dugs_stream.records import Record
from tests.support.waiting import wait_until


def record(offset: int, partition: int = 0, size: int = 1) -> Record:
    """One of so many bytes."""
    return Record(None, b"x" * size, topic="wanted", partition=partition, offset=offset)


def offered(arrivals: Arrivals, records: Sequence[Record]) -> None:
    """They came."""
    for each in records:
        arrivals.offer(each, lambda: False)


def offsets(records: Sequence[Record]) -> list[tuple[int, int]]:
    """Partition and offset of each."""
    return [(each.partition, each.offset) for each in records]


def test_flood_leaves_the_newest() -> None:
    """What would have left the target before it was projected is dropped, and not projected."""
    arrivals = Arrivals(4, 2**20)
    offered(arrivals, [record(offset) for offset in range(1000)])

    assert offsets(arrivals.take(100).records) == [(0, offset) for offset in range(996, 1000)]
    assert not arrivals.has_news


def test_partitions_take_turns() -> None:
    """One that floods keeps the others waiting for no longer than itself."""
    arrivals = Arrivals(9, 2**20)
    arrivals.topic_found(3, is_another=False)
    offered(arrivals, [*(record(offset, 1) for offset in range(50)), record(7, 2), record(8, 0)])

    assert offsets(arrivals.take(4).records) == [(1, 47), (2, 7), (0, 8), (1, 48)]
    assert offsets(arrivals.take(4).records) == [(1, 49)]


def test_portion_given_back_comes_first_again() -> None:
    """Before what came since, as far as the share allows; of a topic that was made anew, it is of no use."""
    arrivals = Arrivals(4, 2**20)
    offered(arrivals, [record(0), record(1)])
    portion = arrivals.take(2)
    offered(arrivals, [record(2), record(3), record(4)])

    arrivals.give_back(portion)

    taken = arrivals.take(9)
    assert offsets(taken.records) == [(0, 1), (0, 2), (0, 3), (0, 4)]
    arrivals.topic_found(1, is_another=True)
    arrivals.give_back(taken)
    assert arrivals.has_news, "that the topic is another one"
    assert arrivals.take(9).records == ()
    assert not arrivals.has_news


def test_large_records_wait_in_the_log() -> None:
    """The reading thread waits until there is room; to stop, it does not."""
    arrivals, stopping = Arrivals(100, 1000), threading.Event()
    offered(arrivals, [record(0, size=2000)])
    waiting = threading.Thread(target=lambda: offered(arrivals, [record(1), record(2)]))
    waiting.start()

    assert offsets(arrivals.take(1).records) == [(0, 0)]
    waiting.join(30)

    wait_until(lambda: not waiting.is_alive(), 1)
    offered(arrivals, [record(3, size=2000)])
    stopping.set()
    arrivals.offer(record(4), stopping.is_set)
    assert offsets(arrivals.take(9).records) == [(0, 1), (0, 2), (0, 3)]
