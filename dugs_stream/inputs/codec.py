"""The codec protocol: bytes in, one sample's tensor or a rejection out; and the rejections that codecs share.

A codec is pure and safe to call from several threads at once. It never raises for bad bytes: they become a
`Rejection`, because a bad record is a verdict and not an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from dugs_stream.core.samples import Inputs, structure_of
from dugs_stream.records import Reason, Rejection, Skip

Shape = tuple[int, ...]
"""The axes of one sample, without a batch axis."""

_LONGEST_ERROR = 300
"""Characters of an error kept in a rejection: it travels in a Kafka header and in logs, and may quote the record."""


class Labelled(NamedTuple):
    """A sample, and the label that the codec found beside it, in any form."""

    inputs: Inputs
    label: Any


class Codec(Protocol):
    """One way to read a record's value."""

    def decode(self, value: bytes, expected_shape: Shape | None) -> Inputs | Labelled | Skip | Rejection:
        """The sample behind `value`, on the CPU, without a batch axis; Skip if the record holds no sample.

        A codec that knows the shape before it pays for the pixels compares it with `expected_shape` (None: any) at
        once; the decoder compares the tensor's.
        """


def undecodable(error: str) -> Rejection:
    """The rejection of a value that is not what the codec reads, its error cut to a bounded length."""
    text = error if len(error) <= _LONGEST_ERROR else error[: _LONGEST_ERROR - 1] + "…"
    return Rejection(Reason.UNDECODABLE, text)


def wrong_shape(shape: Sequence[int], expected_shape: Shape) -> Rejection:
    """The rejection of a sample that is not of the model's shape."""
    return Rejection(
        Reason.WRONG_SHAPE, f"the record is {_written(shape)}, the model takes {_written(expected_shape)}"
    )


def several_tensors(inputs: Inputs, expected_shape: Shape) -> Rejection:
    """The rejection of a sample of several tensors where one of a known shape is expected."""
    return Rejection(
        Reason.WRONG_SHAPE,
        f"the record is {structure_of(inputs)}, the model takes one tensor of {_written(expected_shape)} (model.input_shape)",
    )


def _written(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape)) if shape else "a single number"
