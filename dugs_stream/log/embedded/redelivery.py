"""Redelivery on the embedded log: records of one topic put onto another again, with marks, in one transaction.

The marks are kept among the consumer groups' offsets, with a group for each kind of record: `name/kind`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from dugs_stream.errors import OutcomeUnknownError, OwnershipLostError
from dugs_stream.log.embedded.database import open_existing
from dugs_stream.log.embedded.errors import is_disk_failure, translated
from dugs_stream.log.embedded.settings import EmbeddedSettings
from dugs_stream.log.embedded.topics import Topic, append, existing_topic, partition_for, set_offset
from dugs_stream.log.port import Marks
from dugs_stream.records import Message


class EmbeddedRedelivery:
    """See `port.LogRedelivery`. Nothing is locked between two deliveries: each checks that no other went on."""

    def __init__(self, settings: EmbeddedSettings, source: str, target: str, name: str) -> None:
        self._path = settings.path
        self._source = source
        self._target = target
        self._name = name
        self._connection: sqlite3.Connection | None = None
        self._known: Marks = {}
        self._turn = 0

    def marks(self) -> Marks:
        """See port.LogRedelivery."""
        connection = self._open()
        with translated(self._path, "looking at what was retried on"):
            existing_topic(connection, self._target)
            return self._remembered(connection, existing_topic(connection, self._source))

    def claim(self) -> Marks:
        """See port.LogRedelivery."""
        self._known = self.marks()
        return self._known

    def deliver(self, messages: Sequence[Message], marks: Marks) -> None:
        """See port.LogRedelivery."""
        connection = self._open()
        with translated(self._path, "retrying on"):
            connection.execute("BEGIN IMMEDIATE")
            try:
                source = existing_topic(connection, self._source)
                if self._remembered(connection, source) != self._known:
                    raise OwnershipLostError(
                        "Another `dugs retry` went on meanwhile; this one stops before it sends anything twice."
                    )
                self._write(connection, messages)
                self._remember(connection, source, marks)
                self._commit(connection)
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        self._known = {partition: dict(kinds) for partition, kinds in marks.items()}

    def close(self) -> None:
        """See port.LogRedelivery."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with translated(self._path, "closing"):
                connection.close()

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = open_existing(self._path, ", so there is nothing to retry")
        return self._connection

    def _remembered(self, connection: sqlite3.Connection, source: Topic) -> dict[int, dict[str, int]]:
        marks: dict[int, dict[str, int]] = {}
        prefix = f"{self._name}/"
        for partition, partition_id in enumerate(source.partition_ids):
            rows = connection.execute(
                "SELECT consumer_group, next_offset FROM offsets WHERE lane = ? AND substr(consumer_group, 1, ?) = ?",
                (partition_id, len(prefix), prefix),
            )
            kinds = {group[len(prefix) :]: int(offset) for group, offset in rows}
            if kinds:
                marks[partition] = kinds
        return marks

    def _remember(self, connection: sqlite3.Connection, source: Topic, marks: Marks) -> None:
        for partition, kinds in marks.items():
            for kind, offset in kinds.items():
                set_offset(connection, f"{self._name}/{kind}", source.partition_ids[partition], offset)

    def _write(self, connection: sqlite3.Connection, messages: Sequence[Message]) -> None:
        """A record with a key goes to the partition that the writer would pick; those without take turns."""
        sent: dict[int, list[Message]] = {}
        target = existing_topic(connection, self._target)
        for message in messages:
            self._turn += message.key is None
            sent.setdefault(partition_for(target, message.key, self._turn), []).append(message)
        for partition_id, group in sent.items():
            append(connection, partition_id, group)

    def _commit(self, connection: sqlite3.Connection) -> None:
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if is_disk_failure(error):
                raise OutcomeUnknownError(
                    f"The disk failed during a commit to {str(self._path)!r} ({error}): whether these records "
                    "went back is not known. `dugs retry --dry-run` says what is left."
                ) from error
            raise
