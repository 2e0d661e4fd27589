"""One transaction of the embedded log: steps 3 to 6 of the commit, as one transaction of SQLite.

It holds the file's write lock from `begin` to the end, so no other write comes between; readers see the state before
it until it is committed. Any error ends it: its writes are rolled back at once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dugs_stream.errors import LogError, TransactionAbortedError
from dugs_stream.log.embedded.database import begin_write, commit
from dugs_stream.log.embedded.errors import translated
from dugs_stream.log.embedded.owner import check_epoch
from dugs_stream.log.embedded.retention import Retention
from dugs_stream.log.embedded.topics import Topic, append, bounds, existing_topic, set_offset
from dugs_stream.log.port import Committed, Flushed, Outgoing, Polled, Staged
from dugs_stream.log.watchdog import process_ends_unless_done_within
from dugs_stream.records import ChangelogPosition, Message

# How long step 3 waits for the write lock. Senders hold it for milliseconds; only a process that was stopped
# while holding it takes longer, and then an error is better than a silent wait.
_LOCK_SECONDS = 10.0

# A commit writes and syncs some megabytes. A disk that answers at all does so within the kernel's own timeout
# of 30 s and a retry; one that does not (a lost network volume) would hold the daemon for ever.
_COMMIT_SECONDS = 60.0

# Old records pruned in one commit: twice the batch, so that a backlog of them shrinks, and at least four usual
# batches; deleting so many costs less than writing one batch.
_PRUNED_AT_LEAST = 1024


@dataclass(frozen=True, slots=True)
class Scope:
    """What every transaction of one owner has in common."""

    path: Path
    connection: sqlite3.Connection
    group: str
    input: Topic
    changelog: Topic
    retention: Retention


class EmbeddedTransaction:
    """See `port.Transaction`. Made by `EmbeddedLog.transaction`, which begins it and ends it."""

    def __init__(self, scope: Scope, polled: Polled) -> None:
        self._scope = scope
        self._polled = polled
        self._is_open = False

    def begin(self) -> None:
        """Take the write lock and check the epoch; no process can raise it from here to the end."""
        connection = self._scope.connection
        if connection.in_transaction:
            raise LogError(
                "A transaction is open already: the log has one thread and one transaction at a time."
            )
        with self._step("beginning a transaction on"):
            begin_write(connection, wait_seconds=_LOCK_SECONDS)
            self._is_open = True
            check_epoch(connection, self._scope.group, self._polled.membership)

    def publish(self, outgoing: Sequence[Outgoing]) -> Flushed:
        """Write all messages in order; each is in the file when this returns, and visible once committed."""
        self._require_open()
        by_topic: dict[str, list[Message]] = {}
        for each in outgoing:
            by_topic.setdefault(each.topic, []).append(each.message)
        with self._step("writing to"):
            for name, messages in by_topic.items():
                topic = existing_topic(self._scope.connection, name)
                append(self._scope.connection, topic.partition_ids[0], messages)
        return Flushed(len(outgoing))

    def stage_offsets(self, flushed: Flushed, next_offsets: Mapping[int, int]) -> Staged:  # noqa: ARG002  the proof that publish came first
        """Write the group's offsets, and prune records decided long enough ago."""
        self._require_open()
        partition_ids = self._scope.input.partition_ids
        portion = max(_PRUNED_AT_LEAST, 2 * len(self._polled.records))
        with self._step("writing the offsets to"):
            for partition, offset in next_offsets.items():
                if not 0 <= partition < len(partition_ids):
                    raise LogError(
                        f"{self._scope.input.name!r} has no partition {partition}; it has {len(partition_ids)}, counted from 0."
                    )
                set_offset(self._scope.connection, self._scope.group, partition_ids[partition], offset)
                self._scope.retention.apply(
                    self._scope.connection, partition_ids[partition], offset, portion=portion
                )
        return Staged(dict(next_offsets))

    def commit(self, staged: Staged) -> Committed:
        self._require_open()
        connection = self._scope.connection
        doing = f"the commit to {str(self._scope.path)!r}"
        doubt = (
            f"{doing}: the batch may or may not be written. Look at the system's log, then start again: recovery "
            "finds out."
        )
        with self._step("committing to"):
            check_epoch(connection, self._scope.group, self._polled.membership)
            _, changelog_end = bounds(connection, self._scope.changelog.partition_ids[0])
            with process_ends_unless_done_within(_COMMIT_SECONDS, doing):
                commit(connection, doubt)
        self._is_open = False
        return Committed(staged.next_offsets, ChangelogPosition(changelog_end))

    def abandon(self) -> None:
        """Roll back; nothing to do once committed or rolled back."""
        if self._is_open:
            self._is_open = False
            with translated(self._scope.path, "rolling back on"):
                # A full disk makes SQLite roll back by itself; then there is nothing left to undo.
                if self._scope.connection.in_transaction:
                    self._scope.connection.execute("ROLLBACK")

    @contextmanager
    def _step(self, doing: str) -> Iterator[None]:
        """Translate the errors of the block, and give the transaction up after one."""
        try:
            with translated(self._scope.path, doing, passing=TransactionAbortedError):
                yield
        except BaseException:
            self.abandon()
            raise

    def _require_open(self) -> None:
        if not self._is_open:
            raise TransactionAbortedError(
                f"The transaction on {str(self._scope.path)!r} is over: it was committed, or given up after an error. "
                "Nothing more can be written in it; come back through recovery."
            )
