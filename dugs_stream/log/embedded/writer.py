"""Writing records onto topics of the embedded log's file, from any process beside the daemon.

Messages are queued in memory and written some hundred at a time, one durable transaction each: the disk is synced
once a portion, not once a record. Records that `flush` has returned for survive a loss of power.
"""

from __future__ import annotations

from dugs_stream.log.embedded.database import FileClient, write_transaction
from dugs_stream.log.embedded.errors import translated
from dugs_stream.log.embedded.settings import EmbeddedSettings
from dugs_stream.log.embedded.topics import append_to_topics, create_topics, existing_topic
from dugs_stream.records import Message

# Sizes at which the queue is written without a flush: the write lock is held for some milliseconds then, which is
# how long the daemon may have to wait.
_PORTION_RECORDS = 500
_PORTION_BYTES = 4 * 1024 * 1024


class EmbeddedWriter(FileClient):
    """See `port.LogWriter`. A key always goes to the same partition; records without one take turns.

    partitions  of a topic that this writer makes
    """

    def __init__(self, settings: EmbeddedSettings, *, partitions: int = 1) -> None:
        super().__init__(settings.path, if_missing=None)
        self._partitions = partitions
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
        connection = self._connection
        with translated(self._path, "writing to"), write_transaction(connection):
            names = {name for name, _ in self._queue}
            create_topics(connection, [(name, self._partitions) for name in sorted(names)])
            topics = {name: existing_topic(connection, name) for name in names}
            addressed = [(topics[name], message) for name, message in self._queue]
            self._turn = append_to_topics(connection, addressed, self._turn)
        self._queue.clear()
        self._queued_bytes = 0

    def close(self) -> None:
        """Flush and close the file; the file is closed even if flushing raises."""
        try:
            self.flush()
        finally:
            super().close()
