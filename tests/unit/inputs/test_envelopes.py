"""Envelopes: frames of a schema registry and change events are taken off before anything is read."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest

from dugs_stream.inputs.decoder import Decoder, Sample, build_decoder
from dugs_stream.inputs.json import parse_document
from dugs_stream.inputs.settings import CustomCodecSettings, Envelope, JsonCodecSettings, NpyCodecSettings
from dugs_stream.records import Headers, Reason, Record, Rejection, Skip

ROW = {"input": [1, 2], "meta": {"label": "dog"}}
FRAME = b"\0\0\0\0\x2a"


def record(value: Any, headers: Headers = ()) -> Record:
    """A record with these bytes, or with this document as JSON."""
    encoded = value if isinstance(value, bytes | None) else json.dumps(value).encode()
    return Record(b"key", encoded, headers, topic="in", partition=0, offset=0)


def decoder(*envelope: Envelope, codec: Any = None, label: str = "json:meta.label") -> Decoder:
    """A decoder of JSON with labels at a path."""
    return build_decoder(
        codec or JsonCodecSettings(),
        label=label,
        classes=("cat", "dog"),
        label_is_required=True,
        max_record_bytes=1000,
        envelope=envelope,
    )


def is_the_dog(outcome: object) -> bool:
    """Whether the sample and its label came through."""
    return isinstance(outcome, Sample) and (outcome.inputs.tolist(), outcome.label) == (
        [1, 2],
        (1, "dog"),
    )


@pytest.mark.parametrize(
    "event",
    [
        {"payload": {"before": None, "after": ROW, "op": "c"}, "schema": {"type": "struct"}},
        {"payload": {"before": ROW, "after": ROW, "op": "u"}},
        {"before": None, "after": ROW, "op": "r"},
        {"after": ROW},
        {"after": json.dumps(ROW), "op": "c"},
        {**ROW, "__deleted": "false"},
        {"payload": {**ROW, "__deleted": False, "__op": "u"}, "schema": {}},
    ],
    ids=[
        "with its schema",
        "update",
        "without a schema",
        "row alone",
        "of MongoDB",
        "flat",
        "flat with its schema",
    ],
)
def test_debezium_event_is_its_row(event: dict[str, Any]) -> None:
    """Label and numbers stand in the row after the change."""
    assert is_the_dog(decoder("debezium").decode(record(event)))
    assert is_the_dog(
        decoder("schema_registry", "debezium").decode(record(FRAME + json.dumps(event).encode()))
    )


@pytest.mark.parametrize(
    "value",
    [
        None,
        {"payload": {"before": ROW, "after": None, "op": "d"}},
        {"before": ROW, "after": None, "op": "d"},
        {"payload": {"op": "t"}},
        {"op": "m", "message": {"prefix": "x"}},
        {"payload": None, "schema": None},
        {**ROW, "__deleted": "true"},
        b"null",
    ],
    ids=[
        "tombstone",
        "delete",
        "delete without a schema",
        "truncate",
        "message",
        "empty payload",
        "flat delete",
        "null",
    ],
)
def test_debezium_event_without_a_row_is_skipped(value: Any) -> None:
    """It is nobody's fault: no rejection."""
    assert decoder("debezium").decode(record(value)) == Skip()


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (
            {"input": [1, 2], "label": 1},
            "no Debezium event (input.envelope): found an object with 'input', 'label'",
        ),
        ([1, 2], "no Debezium event (input.envelope): found list, expected payload.after or after"),
        ({"payload": [1]}, "no Debezium event (input.envelope): found list"),
        (
            {"after": None, "op": "c"},
            "a Debezium event of operation 'c' without a row: payload.after is null",
        ),
        ({"after": "nonsense", "op": "c"}, "not JSON"),
        (b"nonsense", "not JSON"),
    ],
)
def test_value_that_is_no_debezium_event_is_undecodable(value: Any, error: str) -> None:
    """What was promised is not there; a delete it is not."""
    outcome = decoder("debezium").decode(record(value))

    assert isinstance(outcome, Rejection)
    assert outcome.reason is Reason.UNDECODABLE
    assert outcome.error.startswith(error)


def test_tombstone_without_the_setting_is_empty_as_before() -> None:
    """Only who reads change events knows that there are deletes."""
    outcome = decoder().decode(record(None))

    assert isinstance(outcome, Rejection)
    assert outcome.reason is Reason.EMPTY


def test_frame_of_a_schema_registry_is_taken_off() -> None:
    """Of any codec's value."""
    stream = io.BytesIO()
    np.save(stream, np.array([1, 2], np.float32))
    headers: Headers = (("label", b"dog"),)
    npy = decoder("schema_registry", codec=NpyCodecSettings(), label="header:label")

    assert is_the_dog(decoder("schema_registry").decode(record(FRAME + json.dumps(ROW).encode())))
    assert is_the_dog(npy.decode(record(FRAME + stream.getvalue(), headers)))


def test_value_without_the_frame_is_undecodable() -> None:
    """The bytes are shown, and what was expected of them."""
    assert decoder("schema_registry").decode(record(b'{"input": [1]}')) == Rejection(
        Reason.UNDECODABLE,
        "no frame of a schema registry (input.envelope): starts with b'{\"inp', expected a zero byte and a schema id of "
        "four",
    )


def test_frame_that_no_setting_takes_off_is_named() -> None:
    """Else it would be five unseen bytes in front of good JSON."""
    assert parse_document(FRAME + b"{}") == Rejection(
        Reason.UNDECODABLE,
        "not JSON: it begins with a frame of a schema registry (0, schema id 42); input.envelope: schema_registry takes "
        "it off",
    )


def test_codec_of_ones_own_is_given_the_row_as_json() -> None:
    """It need not know of the envelope."""
    own = CustomCodecSettings(type="tests.support.records.own_code:labelled")
    reader = decoder("debezium", codec=own, label="none")

    assert is_the_dog(reader.decode(record({"payload": {"op": "c", "after": {"x": [1, 2], "y": "dog"}}})))


def test_payload_behind_the_frame_that_is_not_json_is_likely_avro() -> None:
    """Registries hold schemas of three formats."""
    outcome = decoder("schema_registry").decode(record(FRAME + b"\x02\x06dog"))

    assert isinstance(outcome, Rejection)
    assert outcome.error.endswith("Avro and Protobuf need a codec of your own)")
