"""Laws of the wire: what goes in comes out, events keep to their schema, no message exceeds its limit."""

from __future__ import annotations

import json

import jsonschema
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dugs_stream.canonical_json import canonical_json
from dugs_stream.changelog.checksum import NO_ROWS, chain
from dugs_stream.changelog.wire import decode_changelog, row_message, trailer_message
from dugs_stream.log.embedded.topics import pack_headers, unpack_headers
from dugs_stream.outputs.event import EVENT_BYTES_LIMIT, build_event, event_schema
from dugs_stream.outputs.messages import (
    Payload,
    dead_letter_message,
    decision_message,
    read_event,
    unique_message,
)
from dugs_stream.outputs.size import SMALLEST_LIMIT_BYTES, message_bytes
from dugs_stream.records import (
    ChangelogRow,
    Decision,
    Headers,
    JudgedRecord,
    Reason,
    Record,
    Rejection,
    SequenceNumber,
    Trailer,
    Verdict,
)
from tests.support.records.judgements import MODEL, any_headers, any_judgement, judgement_of

payloads: st.SearchStrategy[Payload] = st.sampled_from(["reference", "original"])
SCHEMA = jsonschema.Draft202012Validator(event_schema())
LAWS = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])

# Parts far beyond the limit, as cheap to draw as small ones.
huge = st.one_of(
    st.none(),
    st.builds(lambda unit, times: unit * times, st.binary(min_size=1, max_size=3), st.integers(0, 40_000)),
)
huge_headers: st.SearchStrategy[Headers] = st.lists(
    st.tuples(st.text(max_size=5).flatmap(lambda name: st.integers(0, 8_000).map(lambda n: name * n)), huge),
    max_size=5,
).map(tuple)


@LAWS
@given(any_judgement())
def test_every_event_keeps_to_the_schema_and_its_size(judged: JudgedRecord) -> None:
    """For every judged record the event validates, is bounded, and is the same after a trip through JSON."""
    made = build_event(judged, MODEL)

    SCHEMA.validate(made)
    encoded = canonical_json(made)
    assert len(encoded) <= EVENT_BYTES_LIMIT
    assert json.loads(encoded) == made
    assert canonical_json(json.loads(encoded)) == encoded


@LAWS
@given(st.one_of(st.binary(max_size=1024), st.integers(1, 1024).map(lambda n: b"\0" * n)), st.characters())
def test_event_of_the_worst_key_and_error_stays_within_its_size(key: bytes, character: str) -> None:
    """The bound holds if every character of key and error takes its longest escape."""
    decision = Decision(Verdict.REJECTED, rejection=Rejection(Reason.UNDECODABLE, character * 5000))
    made = build_event(
        judgement_of(Record(key, None, topic="t" * 249, partition=0, offset=2**63 - 1), decision), MODEL
    )

    assert len(canonical_json(made)) <= EVENT_BYTES_LIMIT


@LAWS
@given(any_judgement((Verdict.UNIQUE,)), payloads)
def test_unique_messages_give_their_event_back(judged: JudgedRecord, payload: Payload) -> None:
    """wire_round_trips: in either form the event read back is the event written, and the original is whole."""
    made = build_event(judged, MODEL)
    message = unique_message(judged, made, payload, 1 << 20)

    read_back = read_event(
        Record(message.key, message.value, message.headers, topic="out", partition=0, offset=0)
    )
    assert read_back == made
    assert message.key == judged.record.key
    if payload == "original":
        assert message.value == (
            judged.record.value if message.key is not None else judged.record.value or b""
        )
        assert message.headers[: len(judged.record.headers)] == judged.record.headers


@LAWS
@given(huge, huge, huge_headers, st.sampled_from([SMALLEST_LIMIT_BYTES, 50_000, 100_000]))
def test_no_message_exceeds_its_limit(
    key: bytes | None, value: bytes | None, headers: Headers, limit: int
) -> None:
    """However large key, value and headers are, each message fits, and none is refused."""
    record = Record(key, value, headers, topic="samples", partition=0, offset=0)
    unique = judgement_of(record)
    decision = Decision(Verdict.REJECTED, rejection=Rejection(Reason.TOO_LARGE, "x" * 5000))
    rejected = judgement_of(record, decision)
    messages = [
        unique_message(unique, build_event(unique, MODEL), "reference", limit),
        unique_message(unique, build_event(unique, MODEL), "original", limit),
        decision_message(rejected, build_event(rejected, MODEL), limit),
        dead_letter_message(rejected, build_event(rejected, MODEL), limit),
    ]

    for message in messages:
        assert message_bytes(message) <= limit
        assert (message.key, message.value) != (None, None)
    letter = messages[-1]
    assert (value or b"").startswith(letter.value or b"")


@LAWS
@given(
    st.integers(0, 2**63 - 1),
    st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=1, max_size=40),
    st.dictionaries(
        st.text(),
        st.one_of(st.none(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    ),
)
def test_changelog_rows_round_trip(sequence: int, numbers: list[float], facts: dict[str, object]) -> None:
    """wire_round_trips: number, vector bits and event come back, and with them the checksum."""
    row = ChangelogRow(
        SequenceNumber(sequence), {**facts, "sequence": sequence}, np.array(numbers, np.float32)
    )

    decoded = decode_changelog(row_message(row))

    assert isinstance(decoded, ChangelogRow)
    assert decoded == row
    assert decoded.vector.tobytes() == row.vector.tobytes()
    assert chain(NO_ROWS, decoded) == chain(
        NO_ROWS, row
    )  # a replay computes the checksum that the writer computed


offsets = st.dictionaries(st.integers(0, 100), st.integers(0, 2**63 - 1))


@LAWS
@given(
    st.builds(
        Trailer,
        uniques=st.integers(0, 2**60),
        checksum=st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
        next_offsets=offsets,
        batch_ranges=st.dictionaries(st.integers(0, 100), st.tuples(st.integers(0), st.integers(0))),
        fingerprint=st.text(),
        threshold=st.floats(-1, 1),
        min_gradient_norm=st.floats(0, allow_infinity=False),
        input_topic=st.text(),
        input_topic_id=st.text(),
        group=st.text(),
    )
)
def test_trailers_round_trip(trailer: Trailer) -> None:
    """wire_round_trips: every field comes back, floats to the bit, any Unicode in the names."""
    assert decode_changelog(trailer_message(trailer)) == trailer


@LAWS
@given(any_headers)
def test_packed_headers_round_trip(headers: Headers) -> None:
    """The embedded log gives back headers in order, repeated, empty and null ones included."""
    assert unpack_headers(pack_headers(headers)) == headers
