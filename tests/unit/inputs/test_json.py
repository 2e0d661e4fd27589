"""JSON values as tensors, and what JSON allows that no tensor is."""

from __future__ import annotations

import json

import pytest
import torch

from dugs_stream.inputs.json import JsonCodec
from dugs_stream.inputs.settings import JsonCodecSettings
from dugs_stream.records import Reason, Rejection


def decode(value: str | bytes, dtype: str = "float32", field: str = "input") -> torch.Tensor | Rejection:
    """What the codec makes of it."""
    settings = JsonCodecSettings.model_validate({"dtype": dtype, "field": field})
    return JsonCodec(settings).decode(value if isinstance(value, bytes) else value.encode(), None)


@pytest.mark.parametrize(
    ("value", "numbers"),
    [
        ("[1, 2.5]", [1, 2.5]),
        ('{"input": [[1, 2], [3, 4]], "label": 1}', [[1, 2], [3, 4]]),
        ("7", 7),
        ("\ufeff[1]", [1]),
        (" [ -1e3 ] ", [-1000]),
    ],
)
def test_array_of_numbers_becomes_a_tensor(value: str, numbers: object) -> None:
    """Bare or in its field, with as many axes as it is nested."""
    tensor = decode(value)

    assert isinstance(tensor, torch.Tensor)
    assert tensor.dtype is torch.float32
    assert tensor.tolist() == numbers


def test_field_and_dtype_are_the_settings() -> None:
    """Another field and whole numbers, where they say so."""
    tensor = decode('{"tokens": [9007199254740993]}', "int64", "tokens")

    assert isinstance(tensor, torch.Tensor)
    assert tensor.tolist() == [9007199254740993]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", "not JSON: Expecting value"),
        ("{", "not JSON: Expecting property name"),
        (b"\xff\xfe\xfa", "not JSON: "),
        ("[1, 2] x", "not JSON: Extra data"),
        ("[" * 100_000, "the JSON is nested too deeply"),
        ("[" * 9 + "1" + "]" * 9, "more than 8 axes"),
        ('{"data": [1]}', "the object has no field 'input' (input.codec field); it has 'data'"),
        ("{}", "the object has no field 'input' (input.codec field); it has none"),
        (json.dumps(dict.fromkeys("abcdefg", 1)), "the object has no field 'input' (input.codec field); it has 'a', 'b', 'c', 'd', 'e', …"),
        ('{"input": null}', "found null, expected an array of numbers"),
        ('{"input": {"a": 1}}', "found an object with 'a', expected an array of numbers"),
        ('["1"]', 'found "1", expected an array of numbers'),
        ("[true]", "found true, expected an array of numbers"),
        ("[null, 1]", "found null, expected an array of numbers"),
        ("[]", "an empty array"),
        ("[[1], []]", "an empty array"),
        ("[[1, 2], [3]]", "rows of different shapes at axis 0: a tensor has one shape"),
        ("[1, [2]]", "rows of different shapes at axis 0: a tensor has one shape"),
        ("[[[1], [2]], [[3], [4, 5]]]", "rows of different shapes at axis 1: a tensor has one shape"),
    ],
)  # fmt: skip
def test_value_that_is_no_regular_array_is_undecodable(value: str | bytes, expected: str) -> None:
    """The rejection says what stood where numbers were expected."""
    rejection = decode(value)

    assert isinstance(rejection, Rejection)
    assert rejection.reason is Reason.UNDECODABLE
    assert rejection.error.startswith(expected), rejection.error


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_constant_that_json_does_not_have_is_not_finite(constant: str) -> None:
    """Python would read them; they are no numbers to learn from."""
    assert decode(f"[1, {constant}]") == Rejection(
        Reason.NOT_FINITE, f"the JSON holds {constant}, which is not a number"
    )


def test_number_beyond_every_float_is_not_finite() -> None:
    """Hundreds of digits are JSON, and no float; of thousands Python makes no number at all."""
    assert decode("[1" + "0" * 400 + "]") == Rejection(
        Reason.NOT_FINITE, "a number of 401 digits is beyond float32"
    )
    assert decode("[1" + "0" * 30 + "]", "int64") == Rejection(
        Reason.NOT_FINITE, "a number of 31 digits is beyond int64"
    )
    assert decode("[" + "9" * 5000 + "]") == Rejection(
        Reason.NOT_FINITE, "the JSON holds a number of more than 4300 digits"
    )


def test_fraction_is_no_whole_number() -> None:
    """Nothing is rounded in silence."""
    rejection = decode("[1, 2.5]", "int64")

    assert isinstance(rejection, Rejection)
    assert rejection.error == "the array holds float64, expected whole numbers (input.codec dtype: int64)"
