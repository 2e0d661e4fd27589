"""Message size: its upper bound in bytes, and what is left out of a message that is too large.

Pure. The bound holds for what Kafka counts (the record in a batch of its own), so a broker accepts a message that
fits here.
"""

from __future__ import annotations

import hashlib

from dugs_stream.records import Headers, Message

# No topic's limit may be below this: the headers this project adds, an event among them, always fit.
SMALLEST_LIMIT_BYTES = 32 * 1024

# Kafka's batch header (61 bytes) and a record's own varints (at most 31).
_OVERHEAD_BYTES = 128
# Two varint lengths of at most five bytes each.
_HEADER_OVERHEAD_BYTES = 10


def message_bytes(message: Message) -> int:
    """An upper bound of the bytes the message takes on a topic."""
    return _OVERHEAD_BYTES + _length(message.key) + _length(message.value) + _headers_bytes(message.headers)


def name_long_key(message: Message, limit_bytes: int) -> Message:
    """The message itself if it fits; else without its key, with headers for the key's SHA-256 and length.

    For messages whose value and headers are bounded by construction (an event), so that only the key can be long.
    """
    if message.key is None or message_bytes(message) <= limit_bytes:
        return message
    return Message(
        None, message.value, message.headers + _long_key_headers(message.key), message.timestamp_ms
    )


def shorten(
    key: bytes | None, value: bytes | None, headers: Headers, added: Headers, limit_bytes: int
) -> Message:
    """A message of at most `limit_bytes` from a record that is larger, with headers for what was left out.

    `added` stays whole. Of the room that remains, the key may take a quarter, or else is replaced by the headers
    `dugs_key_sha256` and `dugs_key_bytes`; the record's headers, in order, may take half of the rest, and
    `dugs_dropped_headers` counts those left out; the first bytes of the value take the remainder. `dugs_sha256` and
    `dugs_original_bytes` are those of the whole value.
    """
    added += (
        ("dugs_sha256", hashlib.sha256(value or b"").hexdigest().encode()),
        ("dugs_original_bytes", str(_length(value)).encode()),
    )
    # The headers that may still be added take less than 256 bytes.
    room = limit_bytes - _OVERHEAD_BYTES - _headers_bytes(added) - 256
    if key is not None and len(key) > room // 4:
        added += _long_key_headers(key)
        key = None
    room -= _length(key)
    kept = _first_headers(headers, room // 2)
    if len(kept) < len(headers):
        added += (("dugs_dropped_headers", str(len(headers) - len(kept)).encode()),)
    room -= _headers_bytes(kept)
    return Message(key, None if value is None else value[: max(0, room)], kept + added)


def _first_headers(headers: Headers, room: int) -> Headers:
    """The longest prefix of `headers` that takes at most `room` bytes."""
    kept = 0
    while kept < len(headers) and (room := room - _headers_bytes(headers[kept : kept + 1])) >= 0:
        kept += 1
    return headers[:kept]


def _long_key_headers(key: bytes) -> Headers:
    return (
        ("dugs_key_sha256", hashlib.sha256(key).hexdigest().encode()),
        ("dugs_key_bytes", str(len(key)).encode()),
    )


def _headers_bytes(headers: Headers) -> int:
    size = _HEADER_OVERHEAD_BYTES * len(headers)
    for name, value in headers:
        size += len(name) if name.isascii() else len(name.encode("utf-8", "surrogatepass"))
        if value is not None:
            size += len(value)
    return size


def _length(part: bytes | None) -> int:
    return 0 if part is None else len(part)
