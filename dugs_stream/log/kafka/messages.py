"""Records and messages of this project as kafka-python's, and back: the same for every client of the Kafka engine."""

from __future__ import annotations

from typing import Any

from dugs_stream.log.kafka.unreadable import fault_of
from dugs_stream.records import Message, Record


def record_of(received: Any) -> Record:
    """A record of kafka-python as it lies on the topic; a timestamp of −1 means that it has none."""
    headers, timestamp = received.headers, received.timestamp
    return Record(
        received.key,
        received.value,
        tuple(headers) if headers else (),
        timestamp if timestamp is not None and timestamp >= 0 else None,
        topic=received.topic,
        partition=received.partition,
        offset=received.offset,
        fault=fault_of(headers),
    )


def size_of(record: Record) -> int:
    """Bytes that a record counts for in a micro-batch: value, key and headers."""
    size = len(record.value or b"") + len(record.key or b"")
    for name, value in record.headers:
        size += len(name) + len(value or b"")
    return size


WireForm = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]
"""Key, value and headers as kafka-python takes them."""


def wire_form(message: Message) -> WireForm:
    """kafka-python (3.0.12) refuses to send neither key nor value, and a header's value of None that may be received."""
    value = b"" if message.key is None and message.value is None else message.value
    return message.key, value, [(name, b"" if each is None else each) for name, each in message.headers]


def send(producer: Any, topic: str, message: Message, partition: int | None = None) -> Any:
    """Queue a message and return its future; without a partition the client picks one, by the key if there is one."""
    key, value, headers = wire_form(message)
    return producer.send(
        topic, key=key, value=value, headers=headers, timestamp_ms=message.timestamp_ms, partition=partition
    )
