"""Polling of one micro-batch from the partitions, within its three limits and without a busy wait.

Partitions take turns: each poll begins with another one and gives each an equal share first, so that a
long backlog on one does not keep the others waiting. The batch comes out by (partition, offset).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import closing

from dugs_stream.log.embedded.topics import Stored, Topic, stored_from
from dugs_stream.log.port import BatchLimits
from dugs_stream.records import Record

# Between two looks at the file's version, doubling: 1 ms keeps a busy stream's latency low, 20 ms makes an idle
# daemon look 50 times a second, at some microseconds each.
_FIRST_LOOK_SECONDS = 0.001
_LAST_LOOK_SECONDS = 0.02


class Polling:
    """One poll: the records taken so far, and the next offset of each partition. Changes nothing outside itself."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        topic: Topic,
        positions: Mapping[int, int],
        limits: BatchLimits,
        *,
        first_partition: int,
    ) -> None:
        self._connection = connection
        self._topic = topic
        self._limits = limits
        self._positions = dict(positions)
        self._taken: dict[int, list[Stored]] = {partition: [] for partition in positions}
        self._count = 0
        self._bytes = 0
        self._is_full = limits.records <= 0
        count = len(topic.partition_ids)
        self._turns = [(first_partition + index) % count for index in range(count)]

    def fill(self) -> None:
        """Take until the batch is full or `wait_ms` are over, counted from now."""
        ends_at = time.monotonic() + self._limits.wait_ms / 1000
        while True:
            version = file_version(self._connection)  # first, so that a later write is seen as a change
            while self._take_a_round():
                pass
            if self._is_full or not wait_for_change(
                self._connection, version, lambda: time.monotonic() >= ends_at
            ):
                return

    def records(self) -> tuple[Record, ...]:
        """The records taken, by (partition, offset)."""
        return tuple(
            stored.record(self._topic.name, partition)
            for partition in sorted(self._taken)
            for stored in self._taken[partition]
        )

    def next_offsets(self) -> dict[int, int]:
        """The offset after the last record, for the partitions that gave any."""
        return {partition: self._positions[partition] for partition, taken in self._taken.items() if taken}

    def _take_a_round(self) -> bool:
        """Give every partition its share of the room left; whether anything was taken and room remains."""
        before = self._count
        for turn, partition in enumerate(self._turns):
            room = self._limits.records - self._count
            share = -(-room // (len(self._turns) - turn))
            if not self._is_full:
                self._take(partition, share)
        return self._count > before and not self._is_full

    def _take(self, partition: int, share: int) -> None:
        rows = stored_from(
            self._connection, self._topic.partition_ids[partition], self._positions[partition], limit=share
        )
        with closing(rows):
            for stored in rows:
                if self._count and self._bytes + stored.size > self._limits.bytes:
                    self._is_full = True
                    return
                self._taken[partition].append(stored)
                self._positions[partition] = stored.offset + 1
                self._count += 1
                self._bytes += stored.size
                if self._count >= self._limits.records or self._bytes >= self._limits.bytes:
                    self._is_full = True
                    return


def file_version(connection: sqlite3.Connection) -> int:
    """A number that changes whenever another connection commits; asking costs no I/O."""
    return int(connection.execute("PRAGMA data_version").fetchone()[0])


def wait_for_change(connection: sqlite3.Connection, version: int, is_over: Callable[[], bool]) -> bool:
    """Sleep until a commit since `version` was read; False if `is_over` said so first."""
    pause = _FIRST_LOOK_SECONDS
    while file_version(connection) == version:
        if is_over():
            return False
        time.sleep(pause)
        pause = min(2 * pause, _LAST_LOOK_SECONDS)
    return True
