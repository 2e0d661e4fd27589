"""The messages on the output topics: their forms and headers, and how one that is too large is shortened."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest

from dugs_stream.canonical_json import canonical_json
from dugs_stream.changelog.wire import EVENT_HEADER
from dugs_stream.errors import LogError
from dugs_stream.outputs.event import build_event
from dugs_stream.outputs.messages import (
    Payload,
    dead_letter_message,
    decision_message,
    read_event,
    unique_message,
)
from dugs_stream.outputs.size import SMALLEST_LIMIT_BYTES, message_bytes
from dugs_stream.records import Message, Record
from tests.support.records.judgements import MODEL, judgement_of, rejected

MEGABYTE = 1024 * 1024
RECORD = Record(
    b"img-7",
    b"\x89PNG",
    (("label", b"7"), ("label", None)),
    123,
    topic="dugs.samples",
    partition=2,
    offset=1041,
)


def read_back(message: Message) -> Record:
    """The message as it lies on an output topic."""
    return Record(
        message.key, message.value, message.headers, message.timestamp_ms, topic="out", partition=0, offset=0
    )


def headers_of(message: Message) -> dict[str, bytes | None]:
    """Headers by name; of a repeated name the last, as readers take it."""
    return dict(message.headers)


def test_reference_carries_the_event_under_the_record_s_key() -> None:
    """Value is the event as JSON, key the record's, headers those of CloudEvents in binary mode."""
    judged = judgement_of(RECORD)
    made = build_event(judged, MODEL)

    message = unique_message(judged, made, "reference", MEGABYTE)

    assert message.key == b"img-7"
    assert json.loads(message.value or b"") == made
    assert message.headers == (
        ("ce_id", b"dugs.samples/2/1041"),
        ("ce_source", b"/dugs-stream/dugs.samples"),
        ("ce_type", b"dugs.unique"),
        ("ce_specversion", b"1.0"),
        ("content-type", b"application/json"),
    )


def test_original_carries_the_record_and_the_event_in_a_header() -> None:
    """The record's bytes, key and headers stay as they are; the event is the last header."""
    judged = judgement_of(RECORD)
    made = build_event(judged, MODEL)

    message = unique_message(judged, made, "original", MEGABYTE)

    assert (message.key, message.value) == (RECORD.key, RECORD.value)
    assert message.headers == (*RECORD.headers, (EVENT_HEADER, canonical_json(made)))


def test_original_that_is_too_large_goes_by_reference_and_says_so() -> None:
    """A unique that is too large for the topic is published as its event, with headers that say so."""
    judged = judgement_of(replace(RECORD, value=b"x" * 100_000))
    made = build_event(judged, MODEL)

    message = unique_message(judged, made, "original", 50_000)

    assert json.loads(message.value or b"") == made
    assert headers_of(message)["dugs_payload"] == b"reference"
    assert headers_of(message)["dugs_original_bytes"] == b"100000"


@pytest.mark.parametrize("payload", ["reference", "original"])
def test_key_too_large_for_the_topic_is_named_by_its_digest(payload: Payload) -> None:
    """A unique is never lost because of its key: the message goes without it, and headers name it."""
    key = b"k" * 100_000
    judged = judgement_of(replace(RECORD, key=key))

    message = unique_message(judged, build_event(judged, MODEL), payload, 50_000)

    assert message.key is None
    assert headers_of(message)["dugs_key_sha256"] == hashlib.sha256(key).hexdigest().encode()
    assert headers_of(message)["dugs_key_bytes"] == b"100000"
    assert message_bytes(message) <= 50_000


def test_decision_carries_every_verdict_by_reference() -> None:
    """The decisions topic has the event of a rejected record too, typed as such."""
    judged = rejected(RECORD)

    message = decision_message(judged, build_event(judged, MODEL), MEGABYTE)

    assert headers_of(message)["ce_type"] == b"dugs.rejected"
    assert json.loads(message.value or b"")["reason"] == "undecodable"


def test_ce_source_is_a_uri_reference_for_any_topic() -> None:
    """Characters that a URI does not allow are escaped."""
    judged = judgement_of(replace(RECORD, topic="weird topic/ü"))

    message = decision_message(judged, build_event(judged, MODEL), MEGABYTE)

    assert headers_of(message)["ce_source"] == b"/dugs-stream/weird%20topic%2F%C3%BC"


def test_dead_letter_is_the_record_with_the_reason_and_its_place() -> None:
    """Original bytes, key and headers first, then the reason and the place."""
    judged = rejected(RECORD, "not an image")

    message = dead_letter_message(judged, build_event(judged, MODEL), MEGABYTE)

    assert (message.key, message.value) == (RECORD.key, RECORD.value)
    assert message.headers[: len(RECORD.headers)] == RECORD.headers
    assert headers_of(message) | {EVENT_HEADER: None} == {
        "label": None,
        "dugs_reason": b"undecodable",
        "dugs_error": b"not an image",
        "dugs_topic": b"dugs.samples",
        "dugs_partition": b"2",
        "dugs_offset": b"1041",
        EVENT_HEADER: None,
    }


def test_dead_letter_that_is_too_large_is_its_first_bytes_and_a_digest() -> None:
    """The value is cut to fit the topic; its whole length and SHA-256 are in headers."""
    value = bytes(range(256)) * 1000
    judged = rejected(replace(RECORD, value=value))

    message = dead_letter_message(judged, build_event(judged, MODEL), 100_000)

    assert value.startswith(message.value or b"")
    assert 98_000 < message_bytes(message) <= 100_000
    assert headers_of(message)["dugs_sha256"] == hashlib.sha256(value).hexdigest().encode()
    assert headers_of(message)["dugs_original_bytes"] == b"256000"
    assert message.key == RECORD.key
    assert message.headers[:2] == RECORD.headers


def test_dead_letter_with_oversized_headers_keeps_the_first_and_counts_the_rest() -> None:
    """Headers that are too large for the topic do not lose the record."""
    headers = tuple((f"h{number}", b"x" * 10_000) for number in range(20))
    judged = rejected(replace(RECORD, headers=headers))

    message = dead_letter_message(judged, build_event(judged, MODEL), 50_000)

    kept = [name for name, _ in message.headers if name.startswith("h")]
    assert kept == [f"h{number}" for number in range(len(kept))]
    assert 0 < len(kept) < 20
    assert headers_of(message)["dugs_dropped_headers"] == str(20 - len(kept)).encode()
    assert message.value == RECORD.value
    assert message_bytes(message) <= 50_000


def test_dead_letter_with_an_oversized_key_names_it() -> None:
    """A key that is too large for the topic is replaced by its digest and length."""
    judged = rejected(replace(RECORD, key=b"k" * 200_000))

    message = dead_letter_message(judged, build_event(judged, MODEL), 50_000)

    assert message.key is None
    assert headers_of(message)["dugs_key_bytes"] == b"200000"
    assert message.value == RECORD.value


def test_dead_letter_with_everything_large_still_fits() -> None:
    """Key and headers that stay take their room from the value, so that the whole message is within the limit."""
    headers = (("h", b"x" * 10_000), ("h", b"x" * 100_000))
    judged = rejected(replace(RECORD, key=b"k" * 11_000, value=b"v" * 200_000, headers=headers))

    message = dead_letter_message(judged, build_event(judged, MODEL), 50_000)

    assert message.key == judged.record.key
    assert message.headers[0] == headers[0]
    assert headers_of(message)["dugs_dropped_headers"] == b"1"
    assert 10_000 < len(message.value or b"") < 30_000
    assert 48_000 < message_bytes(message) <= 50_000


def test_dead_letter_of_a_tombstone_stays_one() -> None:
    """A record with a key and no value is kept as it is."""
    judged = rejected(replace(RECORD, value=None))

    message = dead_letter_message(judged, build_event(judged, MODEL), MEGABYTE)

    assert (message.key, message.value) == (RECORD.key, None)


def test_dead_letter_without_key_and_value_can_be_sent() -> None:
    """Kafka's client refuses a message without key and value, so it gets an empty value and a header for that."""
    judged = rejected(replace(RECORD, key=None, value=None))

    message = dead_letter_message(judged, build_event(judged, MODEL), MEGABYTE)

    assert (message.key, message.value) == (None, b"")
    assert headers_of(message)["dugs_null_value"] == b"true"


@pytest.mark.parametrize("payload", ["reference", "original"])
def test_read_event_gives_back_the_event_in_either_form(payload: Payload) -> None:
    """The event is found in the value or in the header, also if the record carried another event in its own."""
    judged = judgement_of(replace(RECORD, headers=((EVENT_HEADER, b'{"id": "of an upstream"}'),)))
    made = build_event(judged, MODEL)

    message = unique_message(judged, made, payload, MEGABYTE)

    assert read_event(read_back(message)) == made


def test_read_event_gives_the_event_of_a_dead_letter() -> None:
    """Dead letters can be listed like events."""
    judged = rejected(RECORD)
    made = build_event(judged, MODEL)

    assert read_event(read_back(dead_letter_message(judged, made, SMALLEST_LIMIT_BYTES))) == made


def test_read_event_names_a_record_that_holds_none() -> None:
    """A record without an event is a LogError that names it, as when the wrong topic is read."""
    for value in (None, b"", b"\x89PNG", b"[1]", b"{"):
        with pytest.raises(LogError, match="elsewhere/3/9") as refused:
            read_event(Record(None, value, topic="elsewhere", partition=3, offset=9))
        assert repr(value or b"") in str(refused.value)
