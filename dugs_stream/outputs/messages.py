"""Bytes ↔ records, both ways: what the outputs and the changelog hold, message by message.

Pure: no I/O, no clock; the same judgement gives the same bytes. The parts are `event` (what is said),
`changelog_wire` (rows and trailer) and `message_size` (what is left out where a message would be too large).

Headers of this project come after a record's own. A name may stand twice where the input was an output of
another deployment: the last one counts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import quote

from dugs_stream.canonical_json import canonical_json
from dugs_stream.changelog.wire import EVENT_HEADER
from dugs_stream.errors import LogError
from dugs_stream.outputs.size import SMALLEST_LIMIT_BYTES, message_bytes, name_long_key, shorten
from dugs_stream.records import Headers, JudgedRecord, Message, Record

Payload = Literal["reference", "original"]
"""What a message on the unique topic carries: the event, or the sample itself with the event in a header."""


def unique_message(
    judgement: JudgedRecord, event: Mapping[str, Any], payload: Payload, max_message_bytes: int
) -> Message:
    """The message for the topic of uniques.

    reference  value = the event, key = the sample's key, CloudEvents headers
    original   value, key and headers = the sample's own, and the header `dugs_event`; a sample too large for
               the topic goes by reference instead, with the headers `dugs_payload: reference` and
               `dugs_original_bytes`
    A key that alone is too large for the topic is named by `dugs_key_sha256` and `dugs_key_bytes`.
    """
    if payload == "reference":
        return name_long_key(_by_reference(judgement.record, event), max_message_bytes)
    whole = _whole(judgement.record, ((EVENT_HEADER, canonical_json(event)),))
    if message_bytes(whole) <= max_message_bytes:
        return whole
    return name_long_key(
        _by_reference(
            judgement.record,
            event,
            ("dugs_payload", b"reference"),
            ("dugs_original_bytes", str(len(judgement.record.value or b"")).encode()),
        ),
        max_message_bytes,
    )


def decision_message(
    judgement: JudgedRecord, event: Mapping[str, Any], max_message_bytes: int = SMALLEST_LIMIT_BYTES
) -> Message:
    """The message for the topic of all decisions: the event by reference, whatever the verdict."""
    return name_long_key(_by_reference(judgement.record, event), max_message_bytes)


def dead_letter_message(judgement: JudgedRecord, event: Mapping[str, Any], max_message_bytes: int) -> Message:
    """The rejected record as it was, and in headers why, where from, and the event.

    One larger than the topic takes goes shortened, see `message_size.shorten`; none is lost, as long as
    `max_message_bytes` is at least SMALLEST_LIMIT_BYTES. A record with neither key nor value gets an empty
    value and the header `dugs_null_value`.
    """
    sample = judgement.record
    added: Headers = (
        ("dugs_reason", str(event["reason"]).encode()),
        ("dugs_error", str(event["error"]).encode()),
        ("dugs_topic", sample.topic.encode("utf-8", "replace")),
        ("dugs_partition", str(sample.partition).encode()),
        ("dugs_offset", str(sample.offset).encode()),
        (EVENT_HEADER, canonical_json(event)),
    )
    whole = _whole(sample, added)
    if message_bytes(whole) <= max_message_bytes:
        return whole
    return _sendable(shorten(sample.key, sample.value, sample.headers, added, max_message_bytes))


def read_event(sample: Record) -> dict[str, Any]:
    """The event of a record read back from an output topic, in whichever form it travels.

    Raises LogError for a record that holds none, naming it.
    """
    inner = [value for name, value in sample.headers if name == EVENT_HEADER]
    encoded = inner[-1] if inner else sample.value
    try:
        decoded = json.loads(encoded or b"")
    except ValueError as error:
        raise _no_event(sample, encoded) from error
    if not isinstance(decoded, dict):
        raise _no_event(sample, encoded)
    return decoded


RETRIED_HEADER = "dugs_retried_from"
# What `message_size.shorten` and `name_long_key` leave behind: the record is not whole.
_CUT_HEADERS = frozenset({"dugs_sha256", "dugs_key_sha256", "dugs_dropped_headers"})


def reason_of(letter: Record) -> str | None:
    """Why a record on the dead-letter topic is there; None for one that this project did not put there."""
    found = [value for name, value in letter.headers if name == "dugs_reason"]
    return found[-1].decode("utf-8", "replace") if found and found[-1] is not None else None


def retried_from(letter: Record) -> str | None:
    """The id of the record that this one was before a retry; None where it came to the input by itself."""
    found = [value for name, value in letter.headers if name == RETRIED_HEADER]
    return found[-1].decode("utf-8", "replace") if found and found[-1] is not None else None


def retried_message(letter: Record) -> Message | None:
    """The record as it was before it was rejected, with `dugs_retried_from`, its id then, as last header. None where cut.

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


def _whole(sample: Record, added: Headers) -> Message:
    return _sendable(Message(sample.key, sample.value, sample.headers + added))


def _sendable(message: Message) -> Message:
    """Kafka's client refuses a message with neither key nor value: it gets an empty value, and says so."""
    if message.key is None and message.value is None:
        return Message(None, b"", (*message.headers, ("dugs_null_value", b"true")))
    return message


def _by_reference(sample: Record, event: Mapping[str, Any], *added: tuple[str, bytes | None]) -> Message:
    """CloudEvents in binary mode: ids are unique within the source, which is the input topic."""
    headers: Headers = (
        ("ce_id", str(event["id"]).encode()),
        ("ce_source", f"/dugs-stream/{quote(str(event['source']['topic']), safe='')}".encode()),
        ("ce_type", f"dugs.{event['type']}".encode()),
        ("ce_specversion", b"1.0"),
        ("content-type", b"application/json"),
        *added,
    )
    return Message(sample.key, canonical_json(event), headers)


def _no_event(sample: Record, encoded: bytes | None) -> LogError:
    return LogError(
        f"{sample.id} holds no event: {(encoded or b'')[:80]!r}. Events are JSON objects in the value or in the "
        f"header {EVENT_HEADER!r}; is this the topic you meant?"
    )
