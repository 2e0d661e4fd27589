"""The log on one SQLite file: the default without a broker, with the same promises as Kafka.

One daemon of a group owns the input, until its process ends; any number of processes write and read beside it.
Commits are atomic and durable (WAL, synchronous=FULL): after kill -9 or a loss of power, all of a transaction
is there or nothing. The file must lie on a local disk.

Needs no clean-up, and no constructor of this engine touches the disk: files are opened by `prepare`, by the first
`send` and by `read`.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from dugs_stream.errors import ConfigurationError, LogError
from dugs_stream.log.embedded.database import begin_write, open_file
from dugs_stream.log.embedded.errors import translated
from dugs_stream.log.embedded.owner import Owner, check_epoch
from dugs_stream.log.embedded.polling import Polling
from dugs_stream.log.embedded.retention import Retention
from dugs_stream.log.embedded.settings import EmbeddedSettings
from dugs_stream.log.embedded.topics import (
    Topic,
    bounds,
    create_topics,
    existing_topic,
    find_topic,
    stored_from,
)
from dugs_stream.log.embedded.transaction import EmbeddedTransaction, Scope
from dugs_stream.log.port import BatchLimits, Ownership, Polled, Stop, TopicNames, WhileWaiting, do_nothing
from dugs_stream.records import ChangelogPosition, Message

# Making topics waits for the write lock like any writer.
_PREPARE_SECONDS = 10.0

# Rows of the changelog read at once: with vectors of 8 KiB some 4 MiB in memory, and a short read transaction.
_REPLAY_ROWS = 512


class EmbeddedLog:
    """See `port.Log`. One object, one thread: SQLite's connection refuses any other.

    input_partitions  of the input topic, if this log is the first to make it; a topic that exists keeps its own
    """

    def __init__(self, settings: EmbeddedSettings, topics: TopicNames, *, input_partitions: int = 1) -> None:
        self._settings = settings
        self._topics = topics
        self._input_partitions = input_partitions
        self._owner = Owner(settings.path, topics.group)
        self._scope: Scope | None = None
        self._positions: dict[int, int] | None = None
        self._polls = 0
        self._transaction: EmbeddedTransaction | None = None

    def prepare(self) -> None:
        """Open the file and make the missing topics, each output with one partition.

        Raises LogUnavailableError while the file stays locked, LogError for a file that is not a log's,
        ConfigurationError for a changelog of several partitions.
        """
        if self._scope is not None:
            return
        connection = open_file(self._settings.path, create=True)
        try:
            with translated(self._settings.path, "preparing the topics on"):
                self._create_missing(connection)
                self._scope = self._open_scope(connection)
        finally:
            if self._scope is None:
                connection.close()

    @property
    def longest_pause_seconds(self) -> float:
        """Without limit: an owner loses the input only when its process ends."""
        return math.inf

    def acquire(self, stop: Stop, while_waiting: WhileWaiting = do_nothing) -> Ownership | None:
        """Wait until no other process owns the input of this group, then raise the epoch and read the bounds.

        The input stays owned until `close`, until the process ends, or until another epoch is found.
        """
        scope = self._require_scope()
        self._positions = None
        if not self._owner.claim(scope.connection, stop, while_waiting):
            return None
        try:
            with translated(scope.path, "taking ownership on"):
                ownership = self._ownership(scope)
                scope.connection.execute("COMMIT")
        except BaseException:
            self._owner.release()
            if scope.connection.in_transaction:
                scope.connection.execute("ROLLBACK")
            raise
        return ownership

    def read_changelog(
        self, start: ChangelogPosition, end: ChangelogPosition
    ) -> Iterator[tuple[ChangelogPosition, Message]]:
        """Committed changelog messages from `start` up to `end`; an aborted message never has a position here."""
        scope = self._require_scope()
        (partition_id,) = scope.changelog.partition_ids
        at = int(start)
        while at < end:
            with translated(scope.path, "reading the changelog from"):
                rows = list(stored_from(scope.connection, partition_id, at, end=end, limit=_REPLAY_ROWS))
            for row in rows:
                yield ChangelogPosition(row.offset), row.record(scope.changelog.name, 0)
            if len(rows) < _REPLAY_ROWS:
                return
            at = rows[-1].offset + 1

    def seek(self, next_offsets: Mapping[int, int]) -> None:
        """Set the next offset of every input partition. Raises LogError unless all of them are named."""
        partitions = range(len(self._require_scope().input.partition_ids))
        if set(next_offsets) != set(partitions):
            raise LogError(
                f"seek must name every partition of {self._topics.input!r} ({list(partitions)}); "
                f"it named {sorted(next_offsets)}."
            )
        self._positions = dict(next_offsets)

    def poll(self, limits: BatchLimits) -> Polled:
        """The next micro-batch: the records that are there, and those that come until it is full or the time is over."""
        scope = self._require_scope()
        positions = self._require_positions()
        membership = self._owner.epoch
        polling = Polling(scope.connection, scope.input, positions, limits, first_partition=self._polls)
        with translated(scope.path, "polling"):
            polling.fill()
            check_epoch(scope.connection, scope.group, membership)
        self._polls += 1
        next_offsets = polling.next_offsets()
        positions.update(next_offsets)
        return Polled(polling.records(), next_offsets, membership)

    def positions(self) -> Mapping[int, int]:
        """Per input partition, the next offset to poll; every offset before the end holds a record."""
        return dict(self._require_positions())

    @contextmanager
    def transaction(self, polled: Polled) -> Iterator[EmbeddedTransaction]:
        """Begin a transaction in the epoch of `polled`; leaving it without a commit rolls it back.

        Raises OwnershipLostError if another process has taken over since, TransactionAbortedError if
        the file stays locked.
        """
        transaction = EmbeddedTransaction(self._require_scope(), polled)
        transaction.begin()
        self._transaction = transaction
        try:
            yield transaction
        finally:
            transaction.abandon()

    def input_bounds(self) -> tuple[Mapping[int, int], Mapping[int, int]]:
        """Beginnings and ends of the input partitions, now. From the log's own thread only."""
        scope = self._require_scope()
        with translated(scope.path, "asking"):
            return _input_bounds(scope)

    def changelog_bounds(self) -> tuple[ChangelogPosition, ChangelogPosition]:
        """First position still there, and the end of what is committed now. From the log's own thread only."""
        scope = self._require_scope()
        with translated(scope.path, "asking"):
            start, end = bounds(scope.connection, scope.changelog.partition_ids[0])
        return ChangelogPosition(start), ChangelogPosition(end)

    def committed_offsets(self) -> Mapping[int, int]:
        """The group's committed offset per partition; never committed: absent."""
        scope = self._require_scope()
        with translated(scope.path, "asking"):
            return _committed(scope)

    def close(self) -> None:
        """Give ownership back and close the file; an open transaction is rolled back."""
        self._positions = None
        scope, self._scope = self._scope, None
        try:
            if self._transaction is not None:
                self._transaction.abandon()
            if scope is not None:
                with translated(self._settings.path, "closing"):
                    scope.connection.close()
        finally:
            self._owner.release()

    def _create_missing(self, connection: sqlite3.Connection) -> None:
        wanted = [(self._topics.input, self._input_partitions), *((name, 1) for name in self._topics.outputs)]
        if all(find_topic(connection, name) for name, _ in wanted):
            return
        begin_write(connection, wait_seconds=_PREPARE_SECONDS)
        create_topics(connection, wanted)
        connection.execute("COMMIT")

    def _open_scope(self, connection: sqlite3.Connection) -> Scope:
        return Scope(
            path=self._settings.path,
            connection=connection,
            group=self._topics.group,
            input=existing_topic(connection, self._topics.input),
            changelog=_single(existing_topic(connection, self._topics.changelog)),
            retention=Retention(self._topics.group, self._settings.keep_decided_hours),
        )

    def _require_scope(self) -> Scope:
        self.prepare()
        assert self._scope is not None  # noqa: S101  prepare sets it or raises
        return self._scope

    def _require_positions(self) -> dict[int, int]:
        if self._positions is None:
            raise LogError("There are no positions yet: acquire, replay the changelog and seek come first.")
        return self._positions

    def _ownership(self, scope: Scope) -> Ownership:
        beginnings, ends = _input_bounds(scope)
        changelog_start, changelog_end = self.changelog_bounds()
        return Ownership(
            changelog_start=changelog_start,
            changelog_end=changelog_end,
            committed=_committed(scope),
            beginnings=beginnings,
            ends=ends,
            input_topic_id=scope.input.id,
        )


def _single(changelog: Topic) -> Topic:
    if len(changelog.partition_ids) != 1:
        raise ConfigurationError(
            f"the changelog topic {changelog.name!r} has {len(changelog.partition_ids)} partitions; it must have "
            "one, or its order would be lost. Name another output.changelog_topic."
        )
    return changelog


def _input_bounds(scope: Scope) -> tuple[dict[int, int], dict[int, int]]:
    found = [bounds(scope.connection, partition_id) for partition_id in scope.input.partition_ids]
    beginnings = {partition: beginning for partition, (beginning, _) in enumerate(found)}
    ends = {partition: end for partition, (_, end) in enumerate(found)}
    return beginnings, ends


def _committed(scope: Scope) -> dict[int, int]:
    rows = scope.connection.execute(
        "SELECT lane, next_offset FROM offsets WHERE consumer_group = ?", (scope.group,)
    ).fetchall()
    offsets = dict(rows)
    return {
        partition: offsets[partition_id]
        for partition, partition_id in enumerate(scope.input.partition_ids)
        if partition_id in offsets
    }
