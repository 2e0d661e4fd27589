"""How does a message of ours become a send of kafka-python? The same for every producer of the Kafka engine."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dugs_stream.records import Message


def send(producer: Any, topic: str, message: Message, partition: int | None = None) -> Any:
    """Queue a message and return its future; without a partition the client picks one, by the key where there is one."""
    return producer.send(
        topic,
        key=message.key,
        value=value_to_send(message),
        headers=headers_to_send(message),
        timestamp_ms=message.timestamp_ms,
        partition=partition,
    )


def headers_to_send(message: Message) -> list[tuple[str, bytes]]:
    """A fresh list a send: None, which may be received but not sent, becomes empty bytes."""
    return [(name, b"" if value is None else value) for name, value in message.headers]


def value_to_send(message: Message) -> bytes | None:
    """The value; of a message without key and value, empty bytes, since the client refuses to send nothing."""
    return b"" if message.key is None and message.value is None else message.value


def readable_id(name: str, other: str) -> str:
    """A transactional id that begins with `name`, and differs for any two pairs of names."""
    digest = hashlib.sha256(f"{name}\0{other}".encode()).hexdigest()[:16]
    readable = re.sub(r"[^A-Za-z0-9._-]", "_", name)[:64]
    return f"dugs-{readable}-{digest}"
