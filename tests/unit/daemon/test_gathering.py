"""A micro-batch gathered over several polls: its limits, its order, and when it is over."""

from __future__ import annotations

from dataclasses import replace

from dugs_stream.daemon.gathering import Gathering
from dugs_stream.log.port import BatchLimits, Polled
from dugs_stream.records import Record
from tests.support.waiting import wait_until

LIMITS = BatchLimits(records=4, wait_ms=60_000, bytes=100)


def polled(*places: tuple[int, int], is_full: bool = False) -> Polled:
    """Records of ten bytes at these partitions and offsets."""
    records = tuple(
        Record(b"k", b"12345678", (("h", None),), topic="in", partition=partition, offset=offset)
        for partition, offset in places
    )
    return Polled(records, {each.partition: each.offset + 1 for each in records}, "membership", is_full)


def test_next_poll_may_take_what_is_left() -> None:
    """Records and bytes together stay within the limits of one batch, and a large record is left for the next."""
    gathering = Gathering(LIMITS)
    first = gathering.rest(may_wait=True)

    gathering.add(polled((0, 1), (0, 2), (1, 5)))
    rest = gathering.rest(may_wait=False)

    assert first == replace(LIMITS, ends_idling=True)
    assert rest == BatchLimits(records=1, wait_ms=0, bytes=70, is_rest=True)
    assert 0 < gathering.rest(may_wait=True).wait_ms <= 60_000
    assert not gathering.rest(may_wait=True).ends_idling
    assert not gathering.is_over


def test_gathered_batch_is_as_if_it_had_been_polled_at_once() -> None:
    """By (partition, offset), with the offsets after the last records, under the membership of the polls."""
    gathering = Gathering(LIMITS)
    gathering.add(polled((0, 1), (1, 5)))
    gathering.add(polled())
    gathering.add(polled((0, 2), (1, 6), is_full=True))

    batch = gathering.polled()

    assert gathering.is_over
    assert [(each.partition, each.offset) for each in batch.records] == [(0, 1), (0, 2), (1, 5), (1, 6)]
    assert (batch.next_offsets, batch.membership) == ({0: 3, 1: 7}, "membership")


def test_wait_counts_from_the_first_record() -> None:
    """Without one it is never over; with one it is once the wait is."""
    gathering = Gathering(BatchLimits(records=4, wait_ms=20, bytes=100))
    gathering.add(polled())
    assert not gathering.is_over

    gathering.add(polled((0, 1)))

    assert wait_until(lambda: gathering.is_over, 10)
    assert gathering.rest(may_wait=True).wait_ms == 0
