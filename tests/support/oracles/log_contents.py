"""What lies on the log, read from outside: SQLite by SQL, Kafka by confluent-kafka under read_committed.

Shares no code with the daemon: the file's layout, the headers' packing and the topics' reading are spelled out
here again, so that a mistake in the daemon's own reader cannot hide the same mistake in its writer.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

# No topic of a test takes longer to read; a reader that hangs is a failure with a name.
READ_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class LoggedRecord:
    """One record of a topic."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]

    @property
    def id(self) -> str:
        """topic/partition/offset."""
        return f"{self.topic}/{self.partition}/{self.offset}"

    def header(self, name: str) -> bytes | None:
        """The last header of that name."""
        return dict(self.headers).get(name)


@dataclass(frozen=True, slots=True)
class LogContents:
    """Everything committed: per topic its records in order, and the group's offset per input partition."""

    records: Mapping[str, Sequence[LoggedRecord]]
    committed: Mapping[int, int]
    ends: Mapping[int, int]


def contents_of_embedded(path: Path, group: str, input_topic: str) -> LogContents:
    """Read the whole file in one read transaction."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30.0)) as connection:
        connection.execute("BEGIN")
        lanes = connection.execute(
            "SELECT lanes.number, topics.name, lanes.partition, lanes.next_offset FROM lanes, topics "
            "WHERE lanes.topic = topics.number ORDER BY lanes.number"
        ).fetchall()
        records: dict[str, list[LoggedRecord]] = {name: [] for _, name, _, _ in lanes}
        places = {number: (name, partition) for number, name, partition, _ in lanes}
        for place, key, value, headers in connection.execute(
            "SELECT place, key, value, headers FROM records ORDER BY place"
        ):
            name, partition = places[place // 2**40]
            records[name].append(
                LoggedRecord(name, partition, place % 2**40, key, value, _headers(headers or b""))
            )
        offsets = dict(
            connection.execute("SELECT lane, next_offset FROM offsets WHERE consumer_group = ?", (group,))
        )
        ours = [(number, partition, end) for number, name, partition, end in lanes if name == input_topic]
        return LogContents(
            records,
            {partition: offsets[number] for number, partition, _ in ours if number in offsets},
            {partition: end for _, partition, end in ours},
        )


def _headers(packed: bytes) -> tuple[tuple[str, bytes | None], ...]:
    """Names and values in turn, each after its length as a little-endian int32; −1 is None."""
    pieces: list[bytes | None] = []
    while packed:
        (length,) = struct.unpack("<i", packed[:4])
        pieces.append(packed[4 : 4 + length] if length >= 0 else None)
        packed = packed[4 + max(length, 0) :]
    return tuple(
        ((name or b"").decode(), value) for name, value in zip(pieces[::2], pieces[1::2], strict=True)
    )


def _reader(address: str, group: str) -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": address,
            "group.id": group,  # named, but never joined: partitions are assigned by hand
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": 10,
        }
    )


def is_read_to_its_end(address: str, group: str, topic: str) -> bool:
    """Whether the group has committed every partition of a topic up to its end, by a look that reads no record."""
    with closing(_reader(address, group)) as consumer:
        found = consumer.list_topics(topic, timeout=READ_SECONDS).topics[topic].partitions
        places = [TopicPartition(topic, partition) for partition in found]
        return all(
            place.offset == consumer.get_watermark_offsets(place, timeout=READ_SECONDS)[1]
            for place in consumer.committed(places, timeout=READ_SECONDS)
        )


def contents_of_kafka(address: str, group: str, topics: Sequence[str], input_topic: str) -> LogContents:
    """Read every topic to its last stable offset; the input's committed offsets of the group."""
    consumer = _reader(address, group)
    with closing(consumer):
        found = consumer.list_topics(timeout=READ_SECONDS).topics
        places = [
            TopicPartition(topic, partition, OFFSET_BEGINNING)
            for topic in topics
            if topic in found
            for partition in found[topic].partitions
        ]
        records = {topic: _sorted(read) for topic, read in _read(consumer, places).items()}
        inputs = [TopicPartition(p.topic, p.partition) for p in places if p.topic == input_topic]
        committed = {p.partition: p.offset for p in consumer.committed(inputs, timeout=READ_SECONDS)}
        ends = {p.partition: consumer.get_watermark_offsets(p, timeout=READ_SECONDS)[1] for p in inputs}
    return LogContents(
        {topic: records.get(topic, []) for topic in topics},
        {partition: offset for partition, offset in committed.items() if offset >= 0},
        ends,
    )


def _read(consumer: Consumer, places: Sequence[TopicPartition]) -> dict[str, list[LoggedRecord]]:
    open_places = {(place.topic, place.partition) for place in places}
    records: dict[str, list[LoggedRecord]] = {place.topic: [] for place in places}
    consumer.assign(list(places))
    while open_places:
        message = consumer.poll(READ_SECONDS)
        assert message is not None, f"the test's reader hangs before the end of {sorted(open_places)}"
        error = message.error()
        if error is None:
            record = _record(message)
            records[record.topic].append(record)
        elif error.code() == KafkaError._PARTITION_EOF:
            open_places.discard((message.topic(), message.partition()))
        else:
            raise AssertionError(f"the test's reader failed: {error}")
    return records


def _record(message: Any) -> LoggedRecord:
    return LoggedRecord(
        message.topic(),
        message.partition(),
        message.offset(),
        message.key(),
        message.value(),
        tuple(message.headers() or ()),
    )


def _sorted(records: Sequence[LoggedRecord]) -> list[LoggedRecord]:
    return sorted(records, key=lambda record: (record.partition, record.offset))
