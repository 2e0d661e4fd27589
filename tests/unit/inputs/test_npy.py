"""`.npy` values as tensors, and the headers that lie."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dugs_stream.inputs.npy import NpyCodec, _header_of, _read_again, _read_header
from dugs_stream.inputs.settings import NpyCodecSettings
from dugs_stream.records import Reason, Rejection


def saved(array: Any, **options: Any) -> bytes:
    """The array's bytes as numpy writes them."""
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def with_header(header: str, numbers: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    """A value with a header of one's own making."""
    text = header.encode() + b"\n"
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text + numbers


def decode(
    value: bytes, dtype: str = "float32", shape: tuple[int, ...] | None = None
) -> torch.Tensor | Rejection:
    """What the codec makes of it."""
    return NpyCodec(NpyCodecSettings.model_validate({"dtype": dtype})).decode(value, shape)


@pytest.mark.parametrize("dtype", ["?", "u1", "i2", "<i4", ">i4", "i8", "f2", "<f4", ">f4", "f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_array_of_any_plain_numbers_becomes_float32(dtype: str, order: Any) -> None:
    """Byte order and memory order are the file's affair; numbers and shape stay."""
    array = np.asarray(np.arange(6).reshape(2, 3) % 2, dtype=dtype, order=order)

    tensor = decode(saved(array))

    assert isinstance(tensor, torch.Tensor)
    assert tensor.dtype is torch.float32
    assert tensor.tolist() == [[0, 1, 0], [1, 0, 1]]


def test_whole_numbers_stay_whole_where_the_settings_say_so() -> None:
    """A model that looks up rows gets int64."""
    tensor = decode(saved(np.array([2**53 + 1], np.uint64)), "int64")

    assert isinstance(tensor, torch.Tensor)
    assert tensor.dtype is torch.int64
    assert tensor.tolist() == [2**53 + 1]


def test_tensor_does_not_share_memory_with_the_record() -> None:
    """The tensor may be written to, as torch expects."""
    value = saved(np.zeros(2, np.float32))
    tensor = decode(value)

    assert isinstance(tensor, torch.Tensor)
    tensor += 1
    again = decode(value)
    assert isinstance(again, torch.Tensor)
    assert again.tolist() == [0, 0]


def test_format_version_2_is_read() -> None:
    """Numpy writes it for long headers."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.ones(3), version=(2, 0))

    assert isinstance(decode(stream.getvalue()), torch.Tensor)


class Bomb:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_object_array_is_refused_and_never_unpickled(tmp_path: Path) -> None:
    """Reading a record runs no code from it."""
    value = saved(np.array([Bomb(tmp_path / "ran")], dtype=object), allow_pickle=True)

    rejection = decode(value)

    assert rejection == Rejection(
        Reason.UNDECODABLE, "the array holds Python objects, which are never unpickled; expected numbers"
    )
    assert decode(pickle.dumps(Bomb(tmp_path / "ran"))) != rejection
    assert not (tmp_path / "ran").exists()


HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': %s, }"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"hello", "not a .npy array: ValueError:"),
        (b"\x93NUMPY", "not a .npy array: ValueError:"),
        (saved(np.zeros(4))[:40], "not a .npy array: ValueError:"),
        (saved(np.zeros(4))[:-1], "the header promises 32 bytes of numbers and 31 follow it"),
        (saved(np.zeros(4)) + b"x", "the header promises 32 bytes of numbers and 33 follow it"),
        (with_header(HEADER % "(10**6,)"), "not a .npy array: ValueError:"),
        (with_header(HEADER % "(1000000000000,)", b"\0" * 8), "the header promises 4000000000000 bytes of numbers and 8 follow it"),
        (with_header(HEADER % f"({10**400},)", b"\0" * 8), "the header promises 4"),
        (with_header(HEADER % "(-2, -1)", b"\0" * 8), "the array's shape (-2, -1) holds no numbers"),
        (with_header(HEADER % f"({'1,' * 80})", b"\0" * 4), "the array has 80 axes, expected at most 32"),
        (with_header(HEADER % "(0,)"), "the array's shape (0,) holds no numbers"),
        (with_header("(" * 9000), "not a .npy array: "),
        (with_header("__import__('os').getcwd()"), "not a .npy array: ValueError:"),
        (with_header(HEADER % "(10**9,)"), "not a .npy array: ValueError: malformed node or string on line 1: <ast.BinOp object>"),
        (b"\x93NUMPY\x03\x00", ".npy format version 3.0, expected 1.0 or 2.0"),
        (b"PK\x03\x04rest", "a .npz archive, expected a single .npy array"),
        (saved(np.zeros(2, complex)), "the array holds complex128, expected plain numbers"),
        (saved(np.array(["a"])), "the array holds <U1, expected plain numbers"),
        (saved(np.zeros(1, "datetime64[s]")), "the array holds datetime64[s], expected plain numbers"),
        (saved(np.zeros(1, [("a", "f4")])), "the array holds [('a', '<f4')], expected plain numbers"),
    ],
)  # fmt: skip
def test_value_that_is_no_plain_array_is_undecodable(value: bytes, expected: str) -> None:
    """A header is believed only as far as the bytes behind it go; nothing is allocated on its word."""
    rejection = decode(value)

    assert isinstance(rejection, Rejection)
    assert rejection.reason is Reason.UNDECODABLE
    assert rejection.error.startswith(expected), rejection.error


def test_array_of_another_shape_is_refused_by_its_header() -> None:
    """Before its numbers are looked at."""
    assert decode(with_header(HEADER % "(3, 4)"), shape=(4, 3)) == Rejection(
        Reason.WRONG_SHAPE, "the record is 3×4, the model takes 4×3"
    )


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.zeros(2), "the array holds float64, expected whole numbers (input.codec dtype: int64)"),
        (np.array([2**63], np.uint64), "the number 9223372036854775808 does not fit 64 signed bits"),
    ],
)
def test_numbers_that_are_no_int64_are_undecodable(array: Any, expected: str) -> None:
    """Nothing is rounded or wrapped around in silence."""
    assert decode(saved(array), "int64") == Rejection(Reason.UNDECODABLE, expected)


_DESCRIPTIONS = ("<f4", ">f4", "f8", "|b1", "<u8", "<U3", "|O", "<M8[s]", "", "<f4'", "x")


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    """Beginnings of values: as numpy writes them, with other orders, spaces, lengths and versions, and damaged."""
    fields = [
        f"'descr': '{draw(st.sampled_from(_DESCRIPTIONS))}'",
        f"'fortran_order': {draw(st.sampled_from(['True', 'False', '0']))}",
        f"'shape': {draw(st.sampled_from(['(3,)', '()', '(1, 3)', '(3L,)', '(-1,)', '[3]', '(0,)', '(10**9,)']))}",
    ]
    text = ("{" + ", ".join(draw(st.permutations(fields))) + ", }").encode() + b" " * draw(
        st.integers(0, 450)
    )
    length = len(text) + 1 + draw(st.sampled_from([0, 0, 0, -1, 1, 999]))
    version = draw(st.sampled_from([b"\x01\x00", b"\x01\x00", b"\x02\x00", b"\x01\x01"]))
    value = b"\x93NUMPY" + version + length.to_bytes(2, "little") + text + b"\n"
    return value[: draw(st.integers(0, len(value)))] if draw(st.integers(0, 4)) == 0 else value


@given(headers(), st.binary(max_size=30))
@settings(deadline=None, max_examples=100)
def test_header_that_was_read_before_is_as_numpy_reads_it(head: bytes, numbers: bytes) -> None:
    """Nothing behind a header changes what it says, so that the same header is parsed once."""
    for value in (head + numbers, head, head + numbers):
        assert _told(_header_of(value)) == _told(_read_header(value))


def _told(header: Any) -> Any:
    fields = ("shape", "is_fortran", "dtype", "offset", "refusal", "array_bytes")
    return header if isinstance(header, Rejection) else tuple(getattr(header, name) for name in fields)


def test_headers_that_are_kept_are_bounded() -> None:
    """A stream in which each array has a shape of its own fills no memory."""
    for length in range(1, 400):
        assert isinstance(decode(saved(np.zeros(length))), torch.Tensor)

    assert _read_again.cache_info().currsize <= 256
