"""Output messages: uniques, decisions, dead letters and retries, written and read back.

Pure: no I/O, no clock; the same judged record gives the same bytes. `event` says what a message tells, `size` what
is left out of one that is too large.

Headers of this project come after a record's own. A name may stand twice if the input was an output of another
deployment: the last one counts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal
from urllib.parse import quote

from dugs_stream.canonical_json import canonical_json
from dugs_stream.changelog.wire import EVENT_HEADER
from dugs_stream.errors import LogError
from dugs_stream.outputs.size import message_bytes, name_long_key, shorten
from dugs_stream.records import Headers, JudgedRecord, Message, Record

Payload = Literal["reference", "original"]
"""The content of a message on the topic of uniques: the event, or the record itself with the event in a header."""


def unique_message(
    judged: JudgedRecord, event: Mapping[str, Any], payload: Payload, max_message_bytes: int
) -> Message:
    """The message for the topic of uniques.

    reference  value = the event, key = the record's key, CloudEvents headers
    original   value, key and headers = the record's own, and the header `dugs_event`; a record that is too large
               for the topic goes by reference instead, with the headers `dugs_payload: reference` and
               `dugs_original_bytes`

    A key that alone is too large for the topic is replaced by `dugs_key_sha256` and `dugs_key_bytes`.
    """
    if payload == "reference":
        return name_long_key(_by_reference(judged.record, event), max_message_bytes)
    whole = _whole(judged.record, ((EVENT_HEADER, canonical_json(event)),))
    if message_bytes(whole) <= max_message_bytes:
        return whole
    return name_long_key(
        _by_reference(
            judged.record,
            event,
            ("dugs_payload", b"reference"),
            ("dugs_original_bytes", str(len(judged.record.value or b"")).encode()),
        ),
        max_message_bytes,
    )


def decision_message(judged: JudgedRecord, event: Mapping[str, Any], max_message_bytes: int) -> Message:
    """The message for the topic of all decisions: the event, by reference."""
    return name_long_key(_by_reference(judged.record, event), max_message_bytes)


def dead_letter_message(judged: JudgedRecord, event: Mapping[str, Any], max_message_bytes: int) -> Message:
    """The rejected record as it was, with the reason, its place and the event in headers.

    One that is too large for the topic is shortened, see `size.shorten`; none is lost if `max_message_bytes` is at
    least SMALLEST_LIMIT_BYTES. A record with neither key nor value gets an empty value and the header
    `dugs_null_value`.
    """
    record = judged.record
    added: Headers = (
        ("dugs_reason", str(event["reason"]).encode()),
        ("dugs_error", str(event["error"]).encode()),
        ("dugs_topic", record.topic.encode("utf-8", "replace")),
        ("dugs_partition", str(record.partition).encode()),
        ("dugs_offset", str(record.offset).encode()),
        (EVENT_HEADER, canonical_json(event)),
    )
    whole = _whole(record, added)
    if message_bytes(whole) <= max_message_bytes:
        return whole
    return _sendable(shorten(record.key, record.value, record.headers, added, max_message_bytes))


def read_event(record: Record) -> dict[str, Any]:
    """The event of a record of an output topic: in its header, or else in its value.

    Raises LogError for a record without one, naming it.
    """
    encoded = dict(record.headers).get(EVENT_HEADER, record.value)
    cause = decoded = None
    try:
        decoded = json.loads(encoded or b"")
    except ValueError as error:
        cause = error
    if not isinstance(decoded, dict):
        raise LogError(
            f"{record.id} holds no event: {(encoded or b'')[:80]!r}. Events are JSON objects in the value or in the "
            f"header {EVENT_HEADER!r}; is this the topic you meant?"
        ) from cause
    return decoded


RETRIED_HEADER = "dugs_retried_from"
# Headers that `size.shorten` and `name_long_key` add: the record is not whole.
_CUT_HEADERS = frozenset({"dugs_sha256", "dugs_key_sha256", "dugs_dropped_headers"})


def reason_of(letter: Record) -> str | None:
    """The reason for which a record was rejected; None for one that this project did not put on the topic."""
    return _header_text(letter, "dugs_reason")


def retried_from(letter: Record) -> str | None:
    """The id that this record had before a retry; None if it was never retried."""
    return _header_text(letter, RETRIED_HEADER)


def _header_text(record: Record, name: str) -> str | None:
    value = dict(record.headers).get(name)
    return None if value is None else value.decode("utf-8", "replace")


def retried_message(letter: Record) -> Message | None:
    """The record as it was before it was rejected, with its id of then as header `dugs_retried_from`; None if shortened.

    The inverse of `dead_letter_message`. It gets a new timestamp: under the old one a broker's retention could delete
    it before it is decided.
    """
    last = max(place for place, (name, _) in enumerate(letter.headers) if name == "dugs_reason")
    own, added = letter.headers[:last], dict(letter.headers[last:])
    parts = [added.get(f"dugs_{name}") for name in ("topic", "partition", "offset")]
    if None in parts or not added.keys().isdisjoint(_CUT_HEADERS):
        return None
    origin: Headers = ((RETRIED_HEADER, b"/".join(part or b"" for part in parts)),)
    kept = tuple(header for header in own if header[0] != RETRIED_HEADER)
    return Message(letter.key, None if "dugs_null_value" in added else letter.value, kept + origin)


def _whole(record: Record, added: Headers) -> Message:
    return _sendable(Message(record.key, record.value, record.headers + added))


def _sendable(message: Message) -> Message:
    """Kafka's client refuses a message with neither key nor value: it gets an empty value, and a header for that."""
    if message.key is None and message.value is None:
        return Message(None, b"", (*message.headers, ("dugs_null_value", b"true")))
    return message


@lru_cache(maxsize=4)
def _source_of(topic: str) -> bytes:
    return f"/dugs-stream/{quote(topic, safe='')}".encode()


def _by_reference(record: Record, event: Mapping[str, Any], *added: tuple[str, bytes | None]) -> Message:
    """CloudEvents in binary mode: ids are unique within the source, which is the input topic."""
    headers: Headers = (
        ("ce_id", str(event["id"]).encode()),
        ("ce_source", _source_of(str(event["source"]["topic"]))),
        ("ce_type", f"dugs.{event['type']}".encode()),
        ("ce_specversion", b"1.0"),
        ("content-type", b"application/json"),
        *added,
    )
    return Message(record.key, canonical_json(event), headers)
