"""Numbers as labels, for a loss of one's own: in one dtype, finite, and with every record."""

from __future__ import annotations

import json

import pytest
import torch

from dugs_stream.inputs.decoder import Decoder, Sample, build_decoder
from dugs_stream.inputs.settings import JsonCodecSettings, LabelType
from dugs_stream.inputs.targets import Target
from dugs_stream.records import Headers, Reason, Record, Rejection, Skip


def sample(value: bytes, headers: Headers = ()) -> Record:
    """A record with this value."""
    return Record(None, value, headers, topic="in", partition=0, offset=0)


def reason_of(outcome: Sample | Skip | Rejection) -> Reason:
    """Why the record was rejected."""
    assert isinstance(outcome, Rejection)
    return outcome.reason


def targets(label: str = "json:y", dtype: LabelType = "float32") -> Decoder:
    """A decoder for a loss of one's own that takes numbers."""
    return build_decoder(
        JsonCodecSettings(field="x"),
        label=label,
        classes=None,
        label_is_required=False,
        max_record_bytes=200_000,
        label_type=dtype,
    )


@pytest.mark.parametrize(
    ("label", "expected"),
    [(0.5, 0.5), (-3, -3.0), ([1, -2.5], [1.0, -2.5]), ([[1, 2], [3, 4]], [[1.0, 2.0], [3.0, 4.0]]), ("-0.5", -0.5), ("[1, 2]", [1.0, 2.0])],
)  # fmt: skip
def test_numbers_reach_a_loss_of_ones_own(label: object, expected: object) -> None:
    """Fractions, negative numbers and lists, in the dtype of the setting; in text as JSON writes them."""
    outcome = targets().decode(sample(json.dumps({"x": [1, 2], "y": label}).encode()))
    text = targets("header:label").decode(
        sample(
            b'{"x": [1, 2]}', (("label", (label if isinstance(label, str) else json.dumps(label)).encode()),)
        )
    )

    for each in (outcome, text):
        assert isinstance(each, Sample)
        assert isinstance(each.label, Target)
        assert each.label.tensor.dtype == torch.float32
        assert each.label.tensor.tolist() == expected


def test_dtype_of_a_target_is_the_settings_and_never_the_records() -> None:
    """3 and 3.5 are of one type, or one of them is rejected."""
    (three, half) = (json.dumps({"x": [1], "y": number}).encode() for number in (3, 3.5))

    dtypes = [outcome.label.tensor.dtype for outcome in map(targets().decode, map(sample, (three, half)))]  # type: ignore[union-attr]
    assert dtypes == [torch.float32] * 2
    whole = targets(dtype="int64").decode(sample(three))
    assert isinstance(whole, Sample)
    assert isinstance(whole.label, Target)
    assert whole.label.tensor.dtype == torch.int64
    assert reason_of(targets(dtype="int64").decode(sample(half))) is Reason.LABEL_UNKNOWN


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        (b'"cat"', Reason.LABEL_UNKNOWN),
        (b"true", Reason.LABEL_UNKNOWN),
        (b"[1, [2]]", Reason.LABEL_UNKNOWN),
        (b"[]", Reason.LABEL_UNKNOWN),
        (b'{"a": 1}', Reason.LABEL_UNKNOWN),
        (b"1e39", Reason.LABEL_OUT_OF_RANGE),
        (b"1e999", Reason.LABEL_OUT_OF_RANGE),
        (b"1" * 400, Reason.LABEL_OUT_OF_RANGE),
        (b"null", Reason.LABEL_MISSING),
        (b'""', Reason.LABEL_MISSING),
    ],
)
def test_label_that_is_no_target_is_rejected(label: bytes, reason: Reason) -> None:
    """A loss that takes numbers takes finite ones, and one of them with every record."""
    outcome = targets().decode(sample(b'{"x": [1], "y": %b}' % label))

    assert reason_of(outcome) is reason
    assert isinstance(outcome, Rejection)
    assert len(outcome.error) < 200


@pytest.mark.parametrize("value", [b"nan", b"0.5x", b"\xff", b"[" * 100_000, b"NaN"])
def test_text_that_is_no_target_is_rejected(value: bytes) -> None:
    """In a header too."""
    outcome = targets("header:label").decode(sample(b'{"x": [1]}', (("label", value),)))

    assert reason_of(outcome) in {Reason.LABEL_UNKNOWN, Reason.LABEL_OUT_OF_RANGE}


def test_binary_number_as_target_is_named() -> None:
    """As it is for a class."""
    outcome = targets("header:label").decode(sample(b'{"x": [1]}', (("label", b"\x00\x00\x00\x03"),)))

    assert isinstance(outcome, Rejection)
    assert "(3 as a binary number of 4 bytes" in outcome.error
