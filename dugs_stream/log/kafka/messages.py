"""A record of kafka-python as a sample, and what it weighs."""

from __future__ import annotations

from typing import Any

from dugs_stream.records import Record


def sample_of(record: Any) -> Record:
    """A record of kafka-python as it lies on the topic."""
    return Record(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=record.key,
        value=record.value,
        headers=tuple(record.headers or ()),
        timestamp_ms=record.timestamp if record.timestamp is not None and record.timestamp >= 0 else None,
    )


def size_of(sample: Record) -> int:
    """What a sample weighs against the batch's bytes: its value, key and headers."""
    headers = sum(len(name) + len(value or b"") for name, value in sample.headers)
    return len(sample.value or b"") + len(sample.key or b"") + headers
