"""Which decided input may go? What every group has passed, some hours after this group decided it.

Only the input is pruned: changelog, outputs and dead letters are what the work was for. Input that no
group has committed past is never touched, so a second group that stands still keeps the records it has yet
to read; the price is that a group nobody will run again keeps them too.

When something was decided is remembered as marks ("before this moment everything below this offset"), about
a hundred per partition. Pruning happens inside the daemon's commits, a bounded portion each: an idle daemon
prunes nothing, and the freed pages are used again by what comes next (the file does not shrink).
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
    """How long the decided input of one group is kept; 0 hours: until it is decided."""

    group: str
    keep_hours: float
    clock_ms: Callable[[], int] = now_ms

    def apply(self, connection: sqlite3.Connection, lane: int, decided_to: int, *, portion: int) -> None:
        """Remember that everything below `decided_to` is decided, and prune at most `portion` old records.

        Inside the transaction that commits the group's offset, after that offset was written.
        """
        keep_ms = int(self.keep_hours * _HOUR_MS)
        moment_ms = self.clock_ms()
        if keep_ms:
            self._mark(connection, lane, decided_to, moment_ms, step_ms=max(1, keep_ms // _MARKS))
        beginning, _ = bounds(connection, lane)
        old_enough = self._decided_before(connection, lane, moment_ms - keep_ms) if keep_ms else decided_to
        until = min(old_enough, _passed_by_all(connection, lane))
        if until > beginning:
            delete_below(connection, lane, beginning, min(until, beginning + portion))

    def _mark(
        self, connection: sqlite3.Connection, lane: int, decided_to: int, moment_ms: int, *, step_ms: int
    ) -> None:
        """Add a mark unless the newest one is fresh."""
        last = connection.execute(
            "SELECT max(decided_ms) FROM decided WHERE consumer_group = ? AND lane = ?", (self.group, lane)
        ).fetchone()[0]
        if last is None or moment_ms - last >= step_ms:
            connection.execute(
                "INSERT INTO decided VALUES (?, ?, ?, ?)", (self.group, lane, moment_ms, decided_to)
            )

    def _decided_before(self, connection: sqlite3.Connection, lane: int, moment_ms: int) -> int:
        """The offset below which everything had been decided by then."""
        newest = connection.execute(
            "SELECT decided_ms, next_offset FROM decided WHERE consumer_group = ? AND lane = ? AND decided_ms <= ? "
            "ORDER BY decided_ms DESC LIMIT 1",
            (self.group, lane, moment_ms),
        ).fetchone()
        if newest is None:
            return 0
        connection.execute(
            "DELETE FROM decided WHERE consumer_group = ? AND lane = ? AND decided_ms < ?",
            (self.group, lane, newest[0]),
        )
        return int(newest[1])


def _passed_by_all(connection: sqlite3.Connection, lane: int) -> int:
    """The smallest offset any group has committed on the lane; the caller's own is among them."""
    return int(
        connection.execute("SELECT min(next_offset) FROM offsets WHERE lane = ?", (lane,)).fetchone()[0]
    )
