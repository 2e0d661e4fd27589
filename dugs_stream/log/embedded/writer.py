"""Writing records onto topics of the embedded log's file, from any process beside the daemon.

Messages are queued in memory and written some hundred at a time, one durable transaction each: the disk is synced
once a portion, not once a record. Records that `flush` has returned for survive a loss of power.
"""

from __future__ import annotations

import sqlite3

from dugs_stream.log.embedded.database import open_file
from dugs_stream.log.embedded.errors import translated
from dugs_stream.log.embedded.settings import EmbeddedSettings
from dugs_stream.log.embedded.topics import Topic, append, create_topics, existing_topic, partition_for
from dugs_stream.records import Message

# Sizes at which the queue is written without a flush: the write lock is held for some milliseconds then, which is
# how long the daemon may have to wait.
_PORTION_RECORDS = 500
_PORTION_BYTES = 4 * 1024 * 1024


class EmbeddedWriter:
    """See `port.LogWriter`. A key always goes to the same partition; records without one take turns.

    partitions  of a topic that this writer makes
    """

    def __init__(self, settings: EmbeddedSettings, *, partitions: int = 1) -> None:
        self._path = settings.path
        self._partitions = partitions
        self._connection: sqlite3.Connection | None = None
        self._topics: dict[str, Topic] = {}
        self._queue: list[tuple[str, Message]] = []
        self._queued_bytes = 0
        self._turn = 0

    def send(self, topic: str, message: Message) -> None:
        """Queue one message, and write a long queue out; raises as `flush` does then."""
        self._queue.append((topic, message))
        self._queued_bytes += len(message.key or b"") + len(message.value or b"")
        if len(self._queue) >= _PORTION_RECORDS or self._queued_bytes >= _PORTION_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the whole queue in one transaction, or nothing of it.

        Raises LogUnavailableError while the file stays locked or the disk is full: the queue is kept, and
        flushing again is right. Raises LogError for a file that is not a log's.
        """
        if not self._queue:
            return
        connection = self._open()
        with translated(self._path, "writing to"):
            connection.execute("BEGIN IMMEDIATE")
            try:
                for partition_id, messages in self._by_partition(connection).items():
                    append(connection, partition_id, messages)
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    self._topics.clear()  # those made in this transaction are gone with it
                    connection.execute("ROLLBACK")
        self._queue.clear()
        self._queued_bytes = 0

    def close(self) -> None:
        """Flush and close the file; the file is closed even if flushing raises."""
        try:
            self.flush()
        finally:
            connection, self._connection = self._connection, None
            self._topics.clear()
            if connection is not None:
                with translated(self._path, "closing"):
                    connection.close()

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = open_file(self._path, create=True)
        return self._connection

    def _by_partition(self, connection: sqlite3.Connection) -> dict[int, list[Message]]:
        messages: dict[int, list[Message]] = {}
        turn = self._turn
        for name, message in self._queue:
            topic = self._topic(connection, name)
            turn += message.key is None
            messages.setdefault(partition_for(topic, message.key, turn), []).append(message)
        self._turn = turn
        return messages

    def _topic(self, connection: sqlite3.Connection, name: str) -> Topic:
        if name not in self._topics:
            create_topics(connection, [(name, self._partitions)])
            self._topics[name] = existing_topic(connection, name)
        return self._topics[name]
