"""Reading committed records of a topic from the embedded log's file, without side effects.

A reader takes no lock that a writer waits for: each portion is one short read transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping

from dugs_stream.log.embedded.database import open_existing
from dugs_stream.log.embedded.errors import translated
from dugs_stream.log.embedded.polling import file_version, wait_for_change
from dugs_stream.log.embedded.settings import EmbeddedSettings
from dugs_stream.log.embedded.topics import Stored, Topic, bounds, existing_topic, stored_from
from dugs_stream.log.port import Stop
from dugs_stream.records import Record

# A portion's limits: a read transaction of a few milliseconds, so that the file's WAL can be folded back.
_PORTION_RECORDS = 500
_PORTION_BYTES = 4 * 1024 * 1024


class EmbeddedReader:
    """See `port.LogReader`. Neither makes nor changes anything: a missing file stays missing."""

    def __init__(self, settings: EmbeddedSettings) -> None:
        self._path = settings.path
        self._connection: sqlite3.Connection | None = None

    def read(
        self, topic: str, *, follow: bool, stop: Stop, start: Mapping[int, int] | None = None
    ) -> Iterator[Record]:
        """Every committed record, partition after partition; with `follow` later ones in turn.

        The end is that of the call, not of the first `next`. Records pruned meanwhile are passed over.
        Raises ConfigurationError if there is no such topic, or no file.
        """
        connection = self._open()
        found, _beginnings, ends = self._look(connection, topic)
        first = [(start or {}).get(partition, 0) for partition in range(len(ends))]
        return self._records(connection, found, first, ends, follow=follow, stop=stop)

    def bounds(self, topic: str) -> tuple[Mapping[int, int], Mapping[int, int]]:
        """See port.LogReader."""
        _found, beginnings, ends = self._look(self._open(), topic)
        return dict(enumerate(beginnings)), dict(enumerate(ends))

    def _look(self, connection: sqlite3.Connection, topic: str) -> tuple[Topic, list[int], list[int]]:
        with translated(self._path, "reading"):
            found = existing_topic(connection, topic)
            both = [bounds(connection, partition_id) for partition_id in found.partition_ids]
        return found, [beginning for beginning, _ in both], [end for _, end in both]

    def close(self) -> None:
        """Close the file; an iterator still in use then raises LogError."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with translated(self._path, "closing"):
                connection.close()

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = open_existing(self._path, "; `dugs run` and `dugs send` make it")
        return self._connection

    def _records(
        self,
        connection: sqlite3.Connection,
        topic: Topic,
        positions: list[int],
        ends: list[int],
        *,
        follow: bool,
        stop: Stop,
    ) -> Iterator[Record]:
        while True:
            for partition, partition_id in enumerate(topic.partition_ids):
                while positions[partition] < ends[partition] and not (follow and stop()):
                    portion = self._portion(connection, partition_id, positions[partition], ends[partition])
                    for stored in portion:
                        yield stored.record(topic.name, partition)
                    positions[partition] = portion[-1].offset + 1 if portion else ends[partition]
            if not follow:
                return
            with translated(self._path, "following"):
                version = file_version(connection)
                ends = [bounds(connection, partition_id)[1] for partition_id in topic.partition_ids]
                if positions == ends and not wait_for_change(connection, version, stop):
                    return

    def _portion(
        self, connection: sqlite3.Connection, partition_id: int, start: int, end: int
    ) -> list[Stored]:
        portion: list[Stored] = []
        size = 0
        with translated(self._path, "reading"):
            for stored in stored_from(connection, partition_id, start, end=end, limit=_PORTION_RECORDS):
                portion.append(stored)
                size += stored.size
                if size >= _PORTION_BYTES:
                    break
        return portion
