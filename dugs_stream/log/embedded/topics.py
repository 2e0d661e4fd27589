"""Topics, their partitions and the records on them: the statements that all users of the embedded log share.

Every function takes a connection and leaves beginning and ending a transaction to its caller. A lane is one
partition of one topic, as a number that never changes.
"""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple

from dugs_stream.errors import ConfigurationError
from dugs_stream.log.embedded.database import OFFSET_BITS
from dugs_stream.log.embedded.headers import pack_headers, unpack_headers
from dugs_stream.records import Message, Record


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic's stable id and its lanes in the order of the partitions."""

    name: str
    id: str
    lanes: tuple[int, ...]


class Stored(NamedTuple):
    """A record as it lies in the file."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: bytes | None
    timestamp_ms: int | None

    @property
    def size(self) -> int:
        """Bytes of key, value and packed headers."""
        return len(self.key or b"") + len(self.value or b"") + len(self.headers or b"")

    def sample(self, topic: str, partition: int) -> Record:
        """The record as the port hands it out."""
        return Record(
            self.key,
            self.value,
            unpack_headers(self.headers),
            self.timestamp_ms,
            topic=topic,
            partition=partition,
            offset=self.offset,
        )


def find_topic(connection: sqlite3.Connection, name: str) -> Topic | None:
    """The topic of that name, or None."""
    rows = connection.execute(
        "SELECT topics.id, lanes.number FROM topics JOIN lanes ON lanes.topic = topics.number "
        "WHERE topics.name = ? ORDER BY lanes.partition",
        (name,),
    ).fetchall()
    return Topic(name, rows[0][0], tuple(lane for _, lane in rows)) if rows else None


def unknown_topic(connection: sqlite3.Connection, name: str) -> ConfigurationError:
    """The error for a topic that is not there; it names those that are."""
    names = [row[0] for row in connection.execute("SELECT name FROM topics ORDER BY name")]
    known = ", ".join(repr(known) for known in names) or "none yet; `dugs run` and `dugs send` make them"
    return ConfigurationError(f"there is no topic {name!r} on the embedded log; it has: {known}.")


def create_topics(connection: sqlite3.Connection, partitions: Iterable[tuple[str, int]]) -> None:
    """Make those of the named topics that are missing; one that exists keeps its partitions and its id."""
    for name, count in partitions:
        found = connection.execute("SELECT 1 FROM topics WHERE name = ?", (name,)).fetchone()
        if found:
            continue
        cursor = connection.execute("INSERT INTO topics (name, id) VALUES (?, ?)", (name, uuid.uuid4().hex))
        connection.executemany(
            "INSERT INTO lanes (topic, partition) VALUES (?, ?)",
            [(cursor.lastrowid, partition) for partition in range(count)],
        )


def bounds(connection: sqlite3.Connection, lane: int) -> tuple[int, int]:
    """First offset still there, and the next one to be written."""
    beginning, end = connection.execute(
        "SELECT beginning, next_offset FROM lanes WHERE number = ?", (lane,)
    ).fetchone()
    return int(beginning), int(end)


def append(connection: sqlite3.Connection, lane: int, messages: Sequence[Message]) -> int:
    """Write the messages in order at the end of the lane, inside the caller's transaction; its new end.

    A message without a timestamp gets the time of writing.
    """
    start = bounds(connection, lane)[1]
    written_ms = now_ms()
    connection.executemany(
        "INSERT INTO records (place, key, value, headers, timestamp_ms) VALUES (?, ?, ?, ?, ?)",
        (
            (
                _place(lane, start + index),
                message.key,
                message.value,
                pack_headers(message.headers),
                written_ms if message.timestamp_ms is None else message.timestamp_ms,
            )
            for index, message in enumerate(messages)
        ),
    )
    end = start + len(messages)
    connection.execute("UPDATE lanes SET next_offset = ? WHERE number = ?", (end, lane))
    return end


def stored_from(
    connection: sqlite3.Connection, lane: int, start: int, *, end: int | None = None, limit: int
) -> Generator[Stored]:
    """At most `limit` records of a lane from offset `start` on, before `end`, in order.

    A read transaction is open while the iterator is; close it, or use it up.
    """
    last = _place(lane + 1, 0) if end is None else _place(lane, end)
    cursor = connection.execute(
        "SELECT place, key, value, headers, timestamp_ms FROM records "
        "WHERE place >= ? AND place < ? ORDER BY place LIMIT ?",
        (_place(lane, start), last, limit),
    )
    with closing(cursor):
        for place, *rest in cursor:
            yield Stored(place & ((1 << OFFSET_BITS) - 1), *rest)


def delete_below(connection: sqlite3.Connection, lane: int, beginning: int, until: int) -> None:
    """Delete the records of offsets beginning … until − 1 and move the lane's beginning to `until`."""
    connection.execute(
        "DELETE FROM records WHERE place >= ? AND place < ?", (_place(lane, beginning), _place(lane, until))
    )
    connection.execute("UPDATE lanes SET beginning = ? WHERE number = ?", (until, lane))


def _place(lane: int, offset: int) -> int:
    return (lane << OFFSET_BITS) | offset


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000
