"""Reading committed records of a topic from the embedded log's file, without side effects.

A reader takes no lock that a writer waits for: each portion is one short read transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from sqlite3 import Connection

from dugs_stream.log.embedded.database import FileClient
from dugs_stream.log.embedded.errors import translated
from dugs_stream.log.embedded.polling import file_version, wait_for_change
from dugs_stream.log.embedded.settings import EmbeddedSettings
from dugs_stream.log.embedded.topics import Stored, Topic, bounds, existing_topic, stored_from
from dugs_stream.log.port import Stop
from dugs_stream.records import Record

# A portion's limits: a read transaction of a few milliseconds, so that the file's WAL can be folded back.
_PORTION_RECORDS = 500
_PORTION_BYTES = 4 * 1024 * 1024


class EmbeddedReader(FileClient):
    """See `port.LogReader`. Neither makes nor changes anything: a missing file stays missing."""

    def __init__(self, settings: EmbeddedSettings) -> None:
        super().__init__(settings.path, if_missing="; `dugs run` and `dugs send` make it")

    def read(
        self, topic: str, *, follow: bool, stop: Stop, start: Mapping[int, int] | None = None
    ) -> Iterator[Record]:
        """The end is that of the call, not of the first `next`. Records pruned meanwhile are passed over."""
        connection = self._connection
        found, _beginnings, ends = self._look(topic)
        first = [(start or {}).get(partition, 0) for partition in range(len(ends))]
        return self._records(connection, found, first, ends, stop if follow else None)

    def bounds(self, topic: str) -> tuple[Mapping[int, int], Mapping[int, int]]:
        _found, beginnings, ends = self._look(topic)
        return dict(enumerate(beginnings)), dict(enumerate(ends))

    def topic_id(self, topic: str) -> str:
        return self._look(topic)[0].id

    def _look(self, topic: str) -> tuple[Topic, list[int], list[int]]:
        connection = self._connection
        with translated(self._path, "reading"):
            found = existing_topic(connection, topic)
            both = [bounds(connection, partition_id) for partition_id in found.partition_ids]
        return found, [beginning for beginning, _ in both], [end for _, end in both]

    def _records(
        self, connection: Connection, topic: Topic, positions: list[int], ends: list[int], stop: Stop | None
    ) -> Iterator[Record]:
        """Up to the ends; with `stop` later ones in turn, until it says so."""
        while True:
            for partition, partition_id in enumerate(topic.partition_ids):
                while positions[partition] < ends[partition] and not (stop and stop()):
                    portion = self._portion(connection, partition_id, positions[partition], ends[partition])
                    for stored in portion:
                        yield stored.record(topic.name, partition)
                    positions[partition] = portion[-1].offset + 1 if portion else ends[partition]
            if stop is None:
                return
            with translated(self._path, "following"):
                version = file_version(connection)
                ends = [bounds(connection, partition_id)[1] for partition_id in topic.partition_ids]
                if positions == ends and not wait_for_change(connection, version, stop):
                    return

    def _portion(self, connection: Connection, partition_id: int, start: int, end: int) -> list[Stored]:
        portion: list[Stored] = []
        size = 0
        with translated(self._path, "reading"):
            for stored in stored_from(connection, partition_id, start, end=end, limit=_PORTION_RECORDS):
                portion.append(stored)
                size += stored.size
                if size >= _PORTION_BYTES:
                    break
        return portion
