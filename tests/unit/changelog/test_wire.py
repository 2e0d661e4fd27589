"""Rows and trailers of the changelog, and every way in which one can be malformed."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from dugs_stream.changelog.wire import decode_changelog, row_message, trailer_message
from dugs_stream.errors import ChangelogError
from dugs_stream.outputs.event import build_event
from dugs_stream.records import ChangelogRow, Message, Record, SequenceNumber, Trailer
from tests.support.records.judgements import MODEL, judgement_of

ROW = ChangelogRow(
    SequenceNumber(17),
    build_event(judgement_of(Record(b"img-7", b"x", topic="dugs.samples", partition=2, offset=1041)), MODEL),
    np.array([0.6, -0.8], np.float32),
)
TRAILER = Trailer(
    uniques=18,
    checksum="0f" * 32,
    next_offsets={0: 1300, 2: 1042},
    batch_ranges={2: (1000, 1041)},
    fingerprint="sha256:5f2c",
    threshold=0.3,
    min_gradient_norm=0.0,
    input_topic="dugs.samples",
    input_topic_id="a1b2",
    group="dugs",
)


def test_row_is_keyed_by_its_number_with_the_vector_as_value() -> None:
    """Key, value and header are as documented: compaction keeps every row, text order is number order."""
    message = row_message(ROW)

    assert message.key == b"unique/00000000000000000017"
    assert message.value == b"\x9a\x99\x19\x3f\xcd\xcc\x4c\xbf"  # 0.6 and −0.8 as little-endian float32
    ((name, encoded),) = message.headers
    assert name == "dugs_event"
    assert json.loads(encoded or b"") == ROW.event


def test_row_of_a_strided_or_wider_vector_is_the_same_message() -> None:
    """The bytes depend on the numbers alone, not on how they lie in memory."""
    strided = np.array([0.6, 9, -0.8, 9], np.float32)[::2]

    assert row_message(ChangelogRow(ROW.sequence, ROW.event, strided)) == row_message(ROW)


def test_row_of_an_event_with_nan_is_refused() -> None:
    """What JSON does not have is not written."""
    with pytest.raises(ValueError, match="JSON"):
        row_message(ChangelogRow(ROW.sequence, {"similarity": float("nan")}, ROW.vector))


def test_trailer_has_one_key_and_comes_back_as_it_was() -> None:
    """The constant key lets compaction keep the last; partitions are numbers again after decoding."""
    message = trailer_message(TRAILER)

    assert message.key == b"trailer"
    assert decode_changelog(message) == TRAILER


def refusal(message: Message) -> str:
    """What the error says that decoding the message raises."""
    try:
        decoded = decode_changelog(message)
    except ChangelogError as error:
        return str(error)
    return f"no error, but {decoded}"


def test_message_with_a_foreign_key_is_named() -> None:
    """A key that is neither a row's nor the trailer's is quoted in the error."""
    keys = [
        None,
        b"",
        b"unique/17",
        b"unique/0000000000000000001x",
        b"other",
        b"unique/00000000000000000017\n",
    ]
    for key in keys:
        assert f"has the key {key!r}" in refusal(Message(key, b"\0\0\0\0"))


def test_malformed_row_is_named_with_what_is_wrong() -> None:
    """Each kind of damage has its own words, with the number of the row."""
    good = row_message(ROW)
    values = [
        (None, "0 bytes"),
        (b"", "0 bytes"),
        (b"\0" * 7, "7 bytes"),
        (np.array([np.nan], np.float32).tobytes(), "not finite"),
    ]
    events: list[tuple[list[bytes | None], str]] = [
        ([], "0 headers"),
        ([b"{}", b"{}"], "2 headers"),
        ([None], "not JSON"),
        ([b"{"], "not JSON"),
        ([b"\xff"], "not JSON"),
        ([b"[17]"], "not a JSON object"),
        ([b'{"sequence": NaN}'], "NaN is not a number"),
        ([b'{"sequence": 18}'], "sequence 18"),
        ([b"{}"], "sequence None"),
    ]
    messages = [(replace(good, value=value), complaint) for value, complaint in values]
    for encoded, complaint in events:
        headers = tuple(("dugs_event", event) for event in encoded)
        messages.append((replace(good, headers=headers), complaint))
    for message, complaint in messages:
        said = refusal(message)
        assert complaint in said
        assert "unique 17" in said


def trailer_with(**changes: object) -> Message:
    """A trailer's message with other facts."""
    facts = json.loads(trailer_message(TRAILER).value or b"") | changes
    return Message(b"trailer", json.dumps(facts).encode())


def test_malformed_trailer_is_named_with_the_field() -> None:
    """A field of another type or out of range is named."""
    malformed: list[tuple[dict[str, object], str]] = [
        ({"uniques": "18"}, "uniques"),
        ({"uniques": -1}, "negative"),
        ({"uniques": None}, "uniques"),
        ({"checksum": "zz"}, "SHA-256"),
        ({"next_offsets": {"x": 1}}, "next_offsets"),
        ({"next_offsets": {"0": -5}}, "negative"),
        ({"batch_ranges": {"0": [1]}}, "batch_ranges"),
        ({"threshold": "0.3"}, "threshold"),
        ({"threshold": 1e999}, "Infinity is not a number"),
        ({"group": None}, "group"),
    ]
    for change, complaint in malformed:
        said = refusal(trailer_with(**change))
        assert complaint in said, change


def test_trailer_without_a_field_is_refused_by_its_name() -> None:
    """No field has a silent default, but for those that earlier versions did not write."""
    whole = json.loads(trailer_message(TRAILER).value or b"")
    assert {*whole, "code", "value_target"} == set(Trailer.__dataclass_fields__)
    for field in whole:
        facts = {name: fact for name, fact in whole.items() if name != field}
        assert field in refusal(Message(b"trailer", json.dumps(facts).encode()))


def test_trailer_tells_the_code_of_the_users_own() -> None:
    """It comes back as it was; a deployment without any writes the trailer of earlier versions, to the byte."""
    coded = replace(TRAILER, code={"input.codec": "source 00ff"})

    assert decode_changelog(trailer_message(coded)) == coded
    assert b"code" not in (trailer_message(TRAILER).value or b"")
    assert decode_changelog(trailer_message(TRAILER)) == TRAILER


def test_trailer_that_is_not_an_object_is_refused() -> None:
    """Empty, torn or foreign bytes are a ChangelogError."""
    for value in (None, b"", b"{", b"[]", b"null", b"\xff\xfe"):
        said = refusal(Message(b"trailer", value))
        assert "a trailer is not" in said, value
