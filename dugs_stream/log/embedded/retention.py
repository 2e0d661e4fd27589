"""Retention of decided input: pruned once every group has passed it, some hours after this group decided it.

Input that a group has not passed is never touched, so a second group that is stopped keeps the records it has yet to
read; the price is that a group that will never run again keeps them too.

The times of decisions are kept as marks ("before this moment everything below this offset"), about a hundred for each
partition. Pruning happens inside the daemon's commits, a bounded portion each: an idle daemon prunes nothing, and the
freed pages are used again by later records (the file does not shrink).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from dugs_stream.log.embedded.topics import bounds, delete_below, now_ms

_HOUR_MS = 3_600_000

# Marks this fine make a record stay at most 1 % longer than asked.
_MARKS = 100


@dataclass(frozen=True, slots=True)
class Retention:
    """How long the decided input of one group is kept; 0 hours: pruned as soon as it is decided."""

    group: str
    keep_hours: float
    clock_ms: Callable[[], int] = now_ms

    def apply(
        self, connection: sqlite3.Connection, partition_id: int, decided_to: int, *, portion: int
    ) -> None:
        """Remember that everything below `decided_to` is decided, and prune at most `portion` old records.

        Inside the transaction that commits the group's offset, after that offset was written.
        """
        keep_ms = int(self.keep_hours * _HOUR_MS)
        moment_ms = self.clock_ms()
        if keep_ms:
            self._mark(connection, partition_id, decided_to, moment_ms, step_ms=max(1, keep_ms // _MARKS))
        beginning, _ = bounds(connection, partition_id)
        until = min(decided_to, _passed_by_all(connection, partition_id))
        if keep_ms:
            until = min(until, self._decided_before(connection, partition_id, moment_ms - keep_ms))
        if until > beginning:
            delete_below(connection, partition_id, beginning, min(until, beginning + portion))

    def _mark(
        self,
        connection: sqlite3.Connection,
        partition_id: int,
        decided_to: int,
        moment_ms: int,
        *,
        step_ms: int,
    ) -> None:
        """Add a mark unless the newest one is fresh."""
        last = connection.execute(
            "SELECT max(decided_ms) FROM decided WHERE consumer_group = ? AND lane = ?",
            (self.group, partition_id),
        ).fetchone()[0]
        if last is None or moment_ms - last >= step_ms:
            connection.execute(
                "INSERT INTO decided VALUES (?, ?, ?, ?)", (self.group, partition_id, moment_ms, decided_to)
            )

    def _decided_before(self, connection: sqlite3.Connection, partition_id: int, moment_ms: int) -> int:
        """The offset below which everything had been decided by that moment."""
        newest = connection.execute(
            "SELECT decided_ms, next_offset FROM decided WHERE consumer_group = ? AND lane = ? AND decided_ms <= ? "
            "ORDER BY decided_ms DESC LIMIT 1",
            (self.group, partition_id, moment_ms),
        ).fetchone()
        if newest is None:
            return 0
        connection.execute(
            "DELETE FROM decided WHERE consumer_group = ? AND lane = ? AND decided_ms < ?",
            (self.group, partition_id, newest[0]),
        )
        return int(newest[1])


def _passed_by_all(connection: sqlite3.Connection, partition_id: int) -> int:
    """The smallest offset that any group has committed; the caller's own is among them."""
    found = connection.execute("SELECT min(next_offset) FROM offsets WHERE lane = ?", (partition_id,))
    return int(found.fetchone()[0])
