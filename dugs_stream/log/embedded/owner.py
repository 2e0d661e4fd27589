"""Ownership of a group's input: a lock file makes one process the owner, an epoch fences earlier ones.

The lock is the operating system's, so it ends with the process that holds it and never before: a stopped
owner stays the owner. The epoch row is the second guard, for a lock that was lost without its holder
noticing (its file removed by hand): each `acquire` raises it, and every commit checks it.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from pathlib import Path

from filelock import FileLock, Timeout

from dugs_stream.errors import OwnershipLostError
from dugs_stream.log.embedded.database import begin_write
from dugs_stream.log.embedded.errors import translated
from dugs_stream.log.port import Stop, WhileWaiting

# Between two tries for the lock of another owner. Well below the half second within which `stop` must be asked; a
# standby that tries 20 times a second costs nothing measurable.
_RETRY_SECONDS = 0.05

# `acquire` waits for SQLite's write lock as long as `stop` lets it: a stopped owner may keep it for hours.
_WITHOUT_LIMIT = float("inf")


def lock_path(path: Path, group: str) -> Path:
    """The lock file of a group, beside the log; a digest, since a group's name may hold any character."""
    return path.with_name(f"{path.name}.owner-{hashlib.sha256(group.encode()).hexdigest()[:12]}")


class Owner:
    """The claim of this process to be the only one that decides for the group."""

    def __init__(self, path: Path, group: str) -> None:
        self._path = path
        self._group = group
        # thread_local=False: the lock belongs to this object; any thread may close it.
        self._lock = FileLock(lock_path(path, group), thread_local=False)
        self.epoch: int | None = None

    def claim(self, connection: sqlite3.Connection, stop: Stop, while_waiting: WhileWaiting) -> bool:
        """Wait for the lock, then begin the transaction that raises the epoch; False when `stop` said so.

        On True the caller is inside that transaction: no other is open, and none begun before under an older epoch
        can commit any more. The caller commits it.
        """
        with translated(self._path, "waiting to own the input on"):
            if self.epoch != _current_epoch(connection, self._group):
                self.release()  # another process took over unnoticed: a lock still held is on a file that is gone
            self.epoch = None
            if not self._wait_for_lock(stop, while_waiting):
                return False
            if not begin_write(connection, wait_seconds=_WITHOUT_LIMIT, stop=stop):
                self.release()
                return False
            connection.execute(
                "INSERT INTO owners (consumer_group, epoch) VALUES (?, 1) "
                "ON CONFLICT (consumer_group) DO UPDATE SET epoch = epoch + 1",
                (self._group,),
            )
            self.epoch = _current_epoch(connection, self._group)
        return True

    def release(self) -> None:
        """Let the next owner in; harmless if nothing is owned."""
        self.epoch = None
        self._lock.release(force=True)

    def _wait_for_lock(self, stop: Stop, while_waiting: WhileWaiting) -> bool:
        if self._lock.is_locked:
            return True
        while not stop():
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                while_waiting()
                time.sleep(_RETRY_SECONDS)
            else:
                return True
        return False


def _current_epoch(connection: sqlite3.Connection, group: str) -> int:
    row = connection.execute("SELECT epoch FROM owners WHERE consumer_group = ?", (group,)).fetchone()
    return 0 if row is None else int(row[0])


def check_epoch(connection: sqlite3.Connection, group: str, epoch: object) -> None:
    """Raise OwnershipLostError unless `epoch` is the one in force."""
    current = _current_epoch(connection, group)
    if epoch != current:
        raise OwnershipLostError(
            f"The input of group {group!r} is owned in epoch {current}, this batch was polled in epoch {epoch}: "
            "another process has taken over. Nothing of the batch was written; come back through recovery."
        )
