""".npy codec: one array of plain numbers, read without ever unpickling.

The header is read first: one that promises another number of bytes than follow it is refused before anything is
allocated. Numbers become float32 (or int64, if the settings say so and the array holds whole numbers).
Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import io
import math
import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from dugs_stream.inputs.codec import Shape, undecodable, wrong_shape
from dugs_stream.inputs.numbers import tensor_of
from dugs_stream.inputs.settings import NpyCodecSettings
from dugs_stream.records import Rejection


@dataclass(frozen=True, slots=True)
class NpyCodec:
    """Reads format versions 1 and 2; version 3 exists only for field names of structured arrays."""

    settings: NpyCodecSettings

    def decode(self, value: bytes, expected_shape: Shape | None) -> torch.Tensor | Rejection:
        """The array as a float32 or int64 tensor of its own shape, or the rejection."""
        header = _header_of(value)
        if isinstance(header, Rejection):
            return header
        if expected_shape is not None and header.shape != expected_shape:
            return wrong_shape(header.shape, expected_shape)
        return _not_as_promised(header, value) or tensor_of(header.array(value), self.settings.dtype)


_VERSION_1 = b"\x93NUMPY\x01\x00"
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_MOST_AXES = 32
"""As many as every numpy can give an array."""
_LONGEST_KEPT = 512
"""Bytes of a header that is kept once it was read; numpy writes 128 for up to some ten axes."""


@dataclass(frozen=True)
class _Header:
    shape: Shape
    is_fortran: bool
    dtype: np.dtype[Any]
    offset: int

    @cached_property
    def array_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @cached_property
    def refusal(self) -> Rejection | None:
        """Why no array with this header is read."""
        if self.dtype.hasobject:
            return undecodable("the array holds Python objects, which are never unpickled; expected numbers")
        if self.dtype.kind not in "biuf":
            return undecodable(f"the array holds {self.dtype}, expected plain numbers")
        if len(self.shape) > _MOST_AXES:
            return undecodable(f"the array has {len(self.shape)} axes, expected at most {_MOST_AXES}")
        if any(length < 1 for length in self.shape):
            return undecodable(f"the array's shape {self.shape} holds no numbers")
        return None

    def array(self, value: bytes) -> NDArray[Any]:
        flat = np.frombuffer(value, self.dtype, offset=self.offset)
        return flat.reshape(self.shape, order="F" if self.is_fortran else "C")


def _header_of(value: bytes) -> _Header | Rejection:
    """What numpy's parser, which takes longer than the rest, says of the header; the same bytes are read once."""
    head = value[: len(_VERSION_1) + 2 + int.from_bytes(value[8:10], "little")]
    if len(head) > _LONGEST_KEPT or not head.startswith(_VERSION_1):
        return _read_header(value)
    return _read_again(head)


def _read_header(value: bytes) -> _Header | Rejection:
    if value[:4] == b"PK\x03\x04":
        return undecodable("a .npz archive, expected a single .npy array")
    stream = io.BytesIO(value)
    try:
        version = npy_format.read_magic(stream)
        read = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}[version]
        shape, is_fortran, dtype = read(stream)
    except KeyError:
        return undecodable(f".npy format version {value[6]}.{value[7]}, expected 1.0 or 2.0")
    except Exception as exc:  # noqa: BLE001 (the header is a Python literal: damaged, it trips any part of the parser)
        # An address in memory would make the same record's reason another in each process.
        return undecodable(f"not a .npy array: {type(exc).__name__}: {_ADDRESS.sub('', str(exc))}")
    return _Header(shape, is_fortran, dtype, stream.tell())


_read_again = lru_cache(maxsize=256)(_read_header)
"""The same for a value cut behind its header: nothing after it is looked at."""


def _not_as_promised(header: _Header, value: bytes) -> Rejection | None:
    if header.refusal is not None:
        return header.refusal
    there = len(value) - header.offset
    if header.array_bytes != there:
        return undecodable(f"the header promises {header.array_bytes} bytes of numbers and {there} follow it")
    return None
