"""Topics of the embedded log, their partitions and records: the SQL statements that all its users share.

Every function takes a connection and leaves beginning and ending a transaction to its caller. A `partition_id` stands
for one partition of one topic and never changes: its row in the table `lanes`.
"""

from __future__ import annotations

import sqlite3
import struct
import time
import uuid
import zlib
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple

from dugs_stream.errors import ConfigurationError
from dugs_stream.log.embedded.database import OFFSET_BITS
from dugs_stream.records import Headers, Message, Record

# A header is: length of the name, the name in UTF-8, length of the value or −1 for None, the value.
# "surrogatepass" lets through what a foreign client decoded with surrogates; it comes back as it was.
_LENGTH = struct.Struct("<i")
_NONE = -1


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic's stable id, and its partitions' ids in their order."""

    name: str
    id: str
    partition_ids: tuple[int, ...]


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

    def record(self, topic: str, partition: int) -> Record:
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
    return Topic(name, rows[0][0], tuple(number for _, number in rows)) if rows else None


def existing_topic(connection: sqlite3.Connection, name: str) -> Topic:
    """The topic of that name. Raises ConfigurationError, which names those that exist, if there is none."""
    found = find_topic(connection, name)
    if found is not None:
        return found
    names = [row[0] for row in connection.execute("SELECT name FROM topics ORDER BY name")]
    known = ", ".join(repr(known) for known in names) or "none yet; `dugs run` and `dugs send` make them"
    raise ConfigurationError(f"there is no topic {name!r} on the embedded log; it has: {known}.")


def create_topics(connection: sqlite3.Connection, partitions: Iterable[tuple[str, int]]) -> None:
    """Make the missing ones of the named topics; one that exists keeps its partitions and its id."""
    for name, count in partitions:
        found = connection.execute("SELECT 1 FROM topics WHERE name = ?", (name,)).fetchone()
        if found:
            continue
        cursor = connection.execute("INSERT INTO topics (name, id) VALUES (?, ?)", (name, uuid.uuid4().hex))
        connection.executemany(
            "INSERT INTO lanes (topic, partition) VALUES (?, ?)",
            [(cursor.lastrowid, partition) for partition in range(count)],
        )


def bounds(connection: sqlite3.Connection, partition_id: int) -> tuple[int, int]:
    """First offset still there, and the next one to be written."""
    beginning, end = connection.execute(
        "SELECT beginning, next_offset FROM lanes WHERE number = ?", (partition_id,)
    ).fetchone()
    return int(beginning), int(end)


def append(connection: sqlite3.Connection, partition_id: int, messages: Sequence[Message]) -> int:
    """Write the messages in order at the end of the partition, in the caller's transaction; returns its new end.

    A message without a timestamp gets the time of writing.
    """
    start = bounds(connection, partition_id)[1]
    written_ms = now_ms()
    connection.executemany(
        "INSERT INTO records (place, key, value, headers, timestamp_ms) VALUES (?, ?, ?, ?, ?)",
        (
            (
                _place(partition_id, start + index),
                message.key,
                message.value,
                pack_headers(message.headers),
                written_ms if message.timestamp_ms is None else message.timestamp_ms,
            )
            for index, message in enumerate(messages)
        ),
    )
    end = start + len(messages)
    connection.execute("UPDATE lanes SET next_offset = ? WHERE number = ?", (end, partition_id))
    return end


def append_to_topics(
    connection: sqlite3.Connection, addressed: Iterable[tuple[Topic, Message]], turn: int
) -> int:
    """Append each message to a partition of its topic: a key's is always the same, messages without a key take turns.

    Returns the turn for the next call.
    """
    by_partition: dict[int, list[Message]] = {}
    for topic, message in addressed:
        turn += message.key is None
        number = turn if message.key is None else zlib.crc32(message.key)
        partition_id = topic.partition_ids[number % len(topic.partition_ids)]
        by_partition.setdefault(partition_id, []).append(message)
    for partition_id, messages in by_partition.items():
        append(connection, partition_id, messages)
    return turn


def stored_from(
    connection: sqlite3.Connection, partition_id: int, start: int, *, end: int | None = None, limit: int
) -> Generator[Stored]:
    """At most `limit` records of a partition from offset `start` on, before `end`, in order.

    A read transaction is open while the iterator is; close it, or use it up.
    """
    last = _place(partition_id + 1, 0) if end is None else _place(partition_id, end)
    cursor = connection.execute(
        "SELECT place, key, value, headers, timestamp_ms FROM records "
        "WHERE place >= ? AND place < ? ORDER BY place LIMIT ?",
        (_place(partition_id, start), last, limit),
    )
    with closing(cursor):
        for place, *rest in cursor:
            yield Stored(place & ((1 << OFFSET_BITS) - 1), *rest)


def delete_below(connection: sqlite3.Connection, partition_id: int, beginning: int, until: int) -> None:
    """Delete the records of offsets beginning … until − 1 and move the partition's beginning to `until`."""
    connection.execute(
        "DELETE FROM records WHERE place >= ? AND place < ?",
        (_place(partition_id, beginning), _place(partition_id, until)),
    )
    connection.execute("UPDATE lanes SET beginning = ? WHERE number = ?", (until, partition_id))


def set_offset(connection: sqlite3.Connection, group: str, partition_id: int, offset: int) -> None:
    """Make `offset` the one that the group has committed."""
    connection.execute(
        "INSERT INTO offsets (consumer_group, lane, next_offset) VALUES (?, ?, ?) "
        "ON CONFLICT (consumer_group, lane) DO UPDATE SET next_offset = excluded.next_offset",
        (group, partition_id, offset),
    )


def _place(partition_id: int, offset: int) -> int:
    return (partition_id << OFFSET_BITS) | offset


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def pack_headers(headers: Headers) -> bytes | None:
    """Headers in their order as bytes, repeated names and None values included; None for no headers."""
    if not headers:
        return None
    parts: list[bytes] = []
    for name, value in headers:
        encoded = name.encode("utf-8", "surrogatepass")
        parts += (_LENGTH.pack(len(encoded)), encoded, _LENGTH.pack(_NONE if value is None else len(value)))
        if value is not None:
            parts.append(value)
    return b"".join(parts)


def unpack_headers(packed: bytes | None) -> Headers:
    """The inverse of `pack_headers`."""
    if packed is None:
        return ()
    # Every record that is polled passes here: no call for each piece.
    headers: list[tuple[str, bytes | None]] = []
    at, end, length_at, width = 0, len(packed), _LENGTH.unpack_from, _LENGTH.size
    while at < end:
        start = at + width
        at = start + length_at(packed, at)[0]
        name = packed[start:at].decode("utf-8", "surrogatepass")
        start, length = at + width, length_at(packed, at)[0]
        at = start if length == _NONE else start + length
        headers.append((name, None if length == _NONE else packed[start:at]))
    return tuple(headers)
