"""Polling of one micro-batch from the partitions, within its three limits and without a busy wait.

Partitions take turns: each poll begins with another one and gives each an equal share first, so that a
long backlog on one does not keep the others waiting. The batch comes out by (partition, offset).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from operator import itemgetter

from dugs_stream.log.embedded.topics import Stored, Topic, stored_from
from dugs_stream.log.port import BatchLimits, Polled

# Between two looks at the file's version, doubling: 1 ms keeps a busy stream's latency low, 20 ms makes an idle
# daemon look 50 times a second, at some microseconds each.
_FIRST_LOOK_SECONDS = 0.001
_LAST_LOOK_SECONDS = 0.02


@dataclass
class Polling:
    """One poll: the records taken so far, and the next offset of each partition. Changes nothing outside itself."""

    connection: sqlite3.Connection
    topic: Topic
    positions: dict[int, int]
    limits: BatchLimits
    first_partition: int
    _taken: list[tuple[int, Stored]] = field(default_factory=list)
    _bytes: int = 0
    _is_full: bool = False

    def fill(self) -> Polled:
        """Take until the batch is full or `wait_ms` are over, counted from now; or until an idle time ends."""
        self._is_full = self.limits.records <= 0
        ends_at = time.monotonic() + self.limits.wait_ms / 1000
        is_idle = False
        while True:
            version = file_version(self.connection)  # first, so that a later write is seen as a change
            while self._take_a_round():
                pass
            if is_idle and self._taken:
                break
            is_idle = self.limits.ends_idling and not self._taken
            if self._is_full or not wait_for_change(
                self.connection, version, lambda: time.monotonic() >= ends_at
            ):
                break
        self._taken.sort(key=itemgetter(0))
        records = tuple(stored.record(self.topic.name, partition) for partition, stored in self._taken)
        return Polled(
            records, {record.partition: record.offset + 1 for record in records}, is_full=self._is_full
        )

    def _take_a_round(self) -> bool:
        """Give every partition its share of the room left; whether anything was taken and room remains."""
        before, count = len(self._taken), len(self.topic.partition_ids)
        for turn in range(count):
            if not self._is_full:
                share = -(-(self.limits.records - len(self._taken)) // (count - turn))
                self._take((self.first_partition + turn) % count, share)
        return len(self._taken) > before and not self._is_full

    def _take(self, partition: int, share: int) -> None:
        partition_id = self.topic.partition_ids[partition]
        with closing(
            stored_from(self.connection, partition_id, self.positions[partition], limit=share)
        ) as rows:
            for stored in rows:
                size = stored.size
                if (self._taken or self.limits.is_rest) and self._bytes + size > self.limits.bytes:
                    self._is_full = True
                    return
                self._taken.append((partition, stored))
                self.positions[partition] = stored.offset + 1
                self._bytes += size
                if len(self._taken) >= self.limits.records or self._bytes >= self.limits.bytes:
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
