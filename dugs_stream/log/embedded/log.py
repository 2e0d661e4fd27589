"""The log on one SQLite file: the default without a broker, with the same promises as Kafka.

One daemon of a group owns the input, until its process ends; any number of processes write and read beside it.
Commits are atomic and durable (WAL, synchronous=FULL): after kill -9 or a loss of power, all of a transaction
is there or nothing. No constructor of this engine touches the disk.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from dugs_stream.errors import ConfigurationError, LogError
from dugs_stream.log.embedded.database import begin_write, open_file
from dugs_stream.log.embedded.errors import translated
from dugs_stream.log.embedded.owner import Owner, check_epoch
from dugs_stream.log.embedded.polling import Polling
from dugs_stream.log.embedded.retention import Retention
from dugs_stream.log.embedded.settings import EmbeddedSettings
from dugs_stream.log.embedded.topics import bounds, create_topics, existing_topic, find_topic, stored_from
from dugs_stream.log.embedded.transaction import EmbeddedTransaction, Scope
from dugs_stream.log.port import BatchLimits, Ownership, Polled, Stop, TopicNames, WhileWaiting, do_nothing
from dugs_stream.records import ChangelogPosition, Message

# Making topics waits for the write lock like any writer.
_PREPARE_SECONDS = 10.0

# Rows of the changelog read at once: with vectors of 8 KiB some 4 MiB in memory, and a short read transaction.
_REPLAY_ROWS = 512


class EmbeddedLog:
    """See `port.Log`, also for what each method promises. SQLite's connection refuses any thread but one.

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
        self._prepared()

    @property
    def longest_pause_seconds(self) -> float:
        """Without limit: an owner loses the input only when its process ends."""
        return math.inf

    def acquire(self, stop: Stop, while_waiting: WhileWaiting = do_nothing) -> Ownership | None:
        """The input stays owned until `close`, until the process ends, or until another epoch is found."""
        scope = self._prepared()
        self._positions = None
        if not self._owner.claim(scope.connection, stop, while_waiting):
            return None
        try:
            changelog_start, changelog_end = self.changelog_bounds()
            beginnings, ends = self.input_bounds()
            committed = self.committed_offsets()
            with translated(scope.path, "taking ownership on"):
                scope.connection.execute("COMMIT")
        except BaseException:
            self._owner.release()
            if scope.connection.in_transaction:
                scope.connection.execute("ROLLBACK")
            raise
        return Ownership(changelog_start, changelog_end, committed, beginnings, ends, scope.input.id)

    def read_changelog(
        self, start: ChangelogPosition, end: ChangelogPosition
    ) -> Iterator[tuple[ChangelogPosition, Message]]:
        scope = self._prepared()
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
        """Raises LogError unless every input partition is named."""
        partitions = range(len(self._prepared().input.partition_ids))
        if set(next_offsets) != set(partitions):
            raise LogError(
                f"seek must name every partition of {self._topics.input!r} ({list(partitions)}); "
                f"it named {sorted(next_offsets)}."
            )
        self._positions = dict(next_offsets)

    def poll(self, limits: BatchLimits) -> Polled:
        scope = self._prepared()
        positions = self._known_positions()
        membership = self._owner.epoch
        with translated(scope.path, "polling"):
            polled = Polling(scope.connection, scope.input, dict(positions), limits, self._polls).fill()
            check_epoch(scope.connection, scope.group, membership)
        self._polls += 1
        positions.update(polled.next_offsets)
        return replace(polled, membership=membership)

    def positions(self) -> Mapping[int, int]:
        """Every offset before the end holds a record."""
        return dict(self._known_positions())

    @contextmanager
    def transaction(self, polled: Polled) -> Iterator[EmbeddedTransaction]:
        """Raises OwnershipLostError if another process has taken over, TransactionAbortedError if the file stays locked."""
        transaction = EmbeddedTransaction(self._prepared(), polled)
        transaction.begin()
        self._transaction = transaction
        try:
            yield transaction
        finally:
            transaction.abandon()

    def input_bounds(self) -> tuple[Mapping[int, int], Mapping[int, int]]:
        scope = self._prepared()
        with translated(scope.path, "asking"):
            found = [bounds(scope.connection, partition_id) for partition_id in scope.input.partition_ids]
        return dict(enumerate(each[0] for each in found)), dict(enumerate(each[1] for each in found))

    def written_ends(self) -> Mapping[int, int]:
        return self.input_bounds()[1]  # senders write each portion whole

    def changelog_bounds(self) -> tuple[ChangelogPosition, ChangelogPosition]:
        scope = self._prepared()
        with translated(scope.path, "asking"):
            start, end = bounds(scope.connection, scope.changelog.partition_ids[0])
        return ChangelogPosition(start), ChangelogPosition(end)

    def committed_offsets(self) -> Mapping[int, int]:
        scope = self._prepared()
        query = "SELECT lane, next_offset FROM offsets WHERE consumer_group = ?"
        with translated(scope.path, "asking"):
            offsets = dict(scope.connection.execute(query, (scope.group,)).fetchall())
        ids = enumerate(scope.input.partition_ids)
        return {partition: offsets[each] for partition, each in ids if each in offsets}

    def cut_off_seconds(self) -> float:
        return 0.0

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

    def _prepared(self) -> Scope:
        """The open file and its topics; a missing file or topic is made, each output with one partition."""
        if self._scope is None:
            connection = open_file(self._settings.path, create=True)
            try:
                with translated(self._settings.path, "preparing the topics on"):
                    self._create_missing(connection)
                    self._scope = self._look_up(connection)
            finally:
                if self._scope is None:
                    connection.close()
        return self._scope

    def _create_missing(self, connection: sqlite3.Connection) -> None:
        wanted = [(self._topics.input, self._input_partitions), *((name, 1) for name in self._topics.outputs)]
        if not all(find_topic(connection, name) for name, _ in wanted):
            begin_write(connection, wait_seconds=_PREPARE_SECONDS)
            create_topics(connection, wanted)
            connection.execute("COMMIT")

    def _look_up(self, connection: sqlite3.Connection) -> Scope:
        changelog = existing_topic(connection, self._topics.changelog)
        if len(changelog.partition_ids) != 1:
            raise ConfigurationError(
                f"the changelog topic {changelog.name!r} has {len(changelog.partition_ids)} partitions; it must have "
                "one, or its order would be lost. Name another output.changelog_topic."
            )
        return Scope(
            path=self._settings.path,
            connection=connection,
            group=self._topics.group,
            input=existing_topic(connection, self._topics.input),
            changelog=changelog,
            retention=Retention(self._topics.group, self._settings.keep_decided_hours),
        )

    def _known_positions(self) -> dict[int, int]:
        if self._positions is None:
            raise LogError("There are no positions yet: acquire, replay the changelog and seek come first.")
        return self._positions
