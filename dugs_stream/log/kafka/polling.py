"""Polling of an owned input: micro-batches within their limits, from positions that `seek` alone sets."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from kafka import TopicPartition

from dugs_stream.errors import OwnershipLostError
from dugs_stream.log.kafka.compat import buffered_records, fetch_ahead
from dugs_stream.log.kafka.deadlines import DEADLINES, ms
from dugs_stream.log.kafka.membership import GroupMembership
from dugs_stream.log.kafka.messages import record_of, size_of
from dugs_stream.log.port import BatchLimits, Polled
from dugs_stream.records import Record

# Records asked for at once. If all of them are far larger than those before, and so compressed that one response
# holds them, they are what is held beyond the micro-batch's bytes.
_ASKED_AT_ONCE = 32


class Polling:
    """What one owner has fetched and not handed out yet. Made anew for each ownership."""

    def __init__(self, group: GroupMembership, topic: str) -> None:
        self._group = group
        self._topic = topic
        self._expected: dict[int, int] = {}
        self._pending: deque[tuple[Record, int]] = deque()  # each with the bytes it counts for
        self._pending_bytes = 0
        self._largest_bytes = 0

    def seek(self, next_offsets: Mapping[int, int]) -> None:
        """Set the position of every owned partition, in the calling thread.

        The trap (kafka-python 3.0.12): when a partition comes back after a rebalance, the client goes on from a
        position of its own although another member has committed beyond it. So after every acquisition every
        single position is set, and everything fetched before is dropped.
        """
        owned = self._group.require_owned()
        if set(next_offsets) != owned.partitions:
            raise ValueError(
                f"seek needs an offset for each of the partitions {sorted(owned.partitions)} of {self._topic}, "
                f"and got {sorted(next_offsets)}"
            )
        self._pending.clear()
        self._pending_bytes = 0
        self._group.assert_still_owner()
        with self._group.rejoining_on_error(f"setting positions on {self._topic}"):
            for partition, offset in next_offsets.items():
                self._group.consumer.seek(TopicPartition(self._topic, partition), offset)
        self._expected = dict(next_offsets)

    def positions(self) -> dict[int, int]:
        """The next offset to hand out of every owned partition.

        The client's own position passes markers and aborted records, also when it returned nothing; it counts
        unless something that it returned is pending here.
        """
        self._group.require_owned()
        positions: dict[int, int] = {}
        with self._group.rejoining_on_error(f"asking for positions on {self._topic}"):
            for partition, expected in self._expected.items():
                reached = self._group.consumer.position(
                    TopicPartition(self._topic, partition), timeout_ms=ms(DEADLINES.request_seconds)
                )
                positions[partition] = max(expected, reached or 0)
        for record, _size in reversed(self._pending):
            positions[record.partition] = record.offset
        return positions

    def written_ends(self) -> dict[int, int]:
        """The high watermark of every owned partition, 0 before the first answer."""
        consumer = self._group.consumer
        places = (
            (each, TopicPartition(self._topic, each)) for each in self._group.require_owned().partitions
        )
        return {partition: consumer.highwater(place) or 0 for partition, place in places}

    def poll(self, limits: BatchLimits) -> Polled:
        """The next micro-batch, and the group's metadata of this moment with it."""
        owned = self._group.require_owned()
        ends_at = time.monotonic() + limits.wait_ms / 1000
        batch: list[Record] = []
        size = 0
        is_first_look = True
        if limits.ends_idling:  # what came before this poll lies in the client's memory
            self._group.assert_still_owner()
            size = self._fill_from_memory(batch, size, limits)
        is_idle = limits.ends_idling and not batch
        while True:
            size, is_full = self._fill(batch, size, limits)
            remaining_ms = max(0.0, (ends_at - time.monotonic()) * 1000)
            is_over = is_full or remaining_ms == 0 or (is_idle and bool(batch))
            if not is_first_look and is_over:
                break
            # Even with a full batch the client is polled once: it must be to stay in the group, and to hear that it
            # is no longer a member.
            wait_ms = 0 if is_full else int(remaining_ms)
            self._fetch(wait_ms, 1 if is_full else self._room(len(batch), size, limits))
            is_first_look = False
            size = self._fill_from_memory(batch, size, limits)
        self._read_ahead(size, limits)
        self._group.assert_still_owner()
        ordered = tuple(sorted(batch, key=_place_of))
        return Polled(ordered, {record.partition: record.offset + 1 for record in ordered}, owned, is_full)

    def _fill(self, batch: list[Record], size: int, limits: BatchLimits) -> tuple[int, bool]:
        """Move pending records into the batch up to its limits: the bytes in it, and whether it is full."""
        while self._pending and len(batch) < limits.records:
            record, record_size = self._pending[0]
            if (batch or limits.is_rest) and size + record_size > limits.bytes:
                return size, True
            self._pending.popleft()
            self._pending_bytes -= record_size
            batch.append(record)
            size += record_size
        return size, len(batch) >= limits.records or size >= limits.bytes

    def _fill_from_memory(self, batch: list[Record], size: int, limits: BatchLimits) -> int:
        """The same with what the client holds in memory, without its detour over its other thread for each piece."""
        while True:
            size, is_full = self._fill(batch, size, limits)
            if is_full or not self._take_from_memory(self._room(len(batch), size, limits)):
                return size

    def _read_ahead(self, size: int, limits: BatchLimits) -> None:
        """Empty the client's memory one micro-batch early, so that the next response comes while these are judged.

        The client asks for no more of a partition before everything of the last response is handed out. What is read
        ahead and the micro-batch of `size` bytes are together within the limit.
        """
        while len(self._pending) < limits.records:
            held = size + self._pending_bytes
            if held + self._largest_bytes > limits.bytes:
                break
            if not self._take_from_memory(self._room(len(self._pending), held, limits)):
                break
        fetch_ahead(self._group.consumer)

    def _take_from_memory(self, at_most: int) -> bool:
        """Whether there was anything."""
        with self._group.rejoining_on_error(f"polling {self._topic}"):
            fetched = buffered_records(self._group.consumer, at_most)
        self._take(fetched)
        return bool(fetched)

    def _room(self, records: int, size: int, limits: BatchLimits) -> int:
        """How many records to ask the client for: those that fit if they are as large as the largest of late.

        The client unpacks what it is asked for: 256 records of 5 MB would be 1.3 GB beside a batch of 64 MiB.
        The first is asked for alone, since nothing is known of its size.
        """
        fitting = (limits.bytes - size) // self._largest_bytes if self._largest_bytes else 1
        return max(1, min(limits.records - records, fitting, _ASKED_AT_ONCE))

    def _fetch(self, wait_ms: int, at_most: int) -> None:
        """Poll the client once into the pending records."""
        with self._group.rejoining_on_error(f"polling {self._topic}"):
            fetched = self._group.consumer.poll(timeout_ms=wait_ms, max_records=at_most)
        self._group.assert_still_owner()
        self._take(fetched)

    def _take(self, fetched: Mapping[Any, Sequence[Any]]) -> None:
        """Into the pending records, each compared with the lowest offset it may have."""
        largest = 0
        for polled in sorted(fetched, key=lambda each: int(each.partition)):
            expected = self._expected[polled.partition]
            for received in fetched[polled]:
                if received.offset < expected:
                    self._group.rejoin()
                    raise OwnershipLostError(
                        f"{self._topic}/{polled.partition} gave offset {received.offset} instead of {expected} or a "
                        "later one: the position is stale. Recovery sets it again."
                    )
                expected = self._expected[polled.partition] = received.offset + 1
                record = record_of(received)
                size = size_of(record)
                self._pending.append((record, size))
                self._pending_bytes += size
                largest = max(largest, size)
        if largest:  # remembered for a while: large records come again among small ones
            self._largest_bytes = max(largest, self._largest_bytes // 2)


def _place_of(record: Record) -> tuple[int, int]:
    return record.partition, record.offset
