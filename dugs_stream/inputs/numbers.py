"""Tensors from arrays of numbers, and arrays from nested lists: float32 from any numbers, int64 from whole ones."""

from __future__ import annotations

import json
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from dugs_stream.inputs.codec import Shape, undecodable
from dugs_stream.records import Rejection

MOST_AXES = 8
"""Deeper than any model's input; it bounds the recursion for every record."""
_SHOWN_KEYS = 5
_FLOAT32 = np.dtype(np.float32)


class IrregularError(Exception):
    """The lists are not a regular array of numbers."""


def array_of(numbers: Any, dtype: Literal["float32", "int64"]) -> NDArray[Any]:
    """The array behind nested lists of numbers: int64 if that is asked for and all are whole, float64 otherwise.

    true, null and "1" are not numbers. Raises IrregularError, or OverflowError for a number beyond the array's dtype;
    its argument is the number of digits.
    """
    flat: list[int | float] = []
    shape = _flatten(numbers, flat, depth=0)
    as_floats = dtype == "float32" or any(isinstance(number, float) for number in flat)
    try:
        return np.asarray(flat, np.float64 if as_floats else np.int64).reshape(shape)
    except OverflowError as exc:
        raise OverflowError(len(str(abs(max(flat, key=abs))))) from exc


def tensor_of(array: NDArray[Any], dtype: Literal["float32", "int64"]) -> torch.Tensor | Rejection:
    """A tensor with memory of its own, in C order, of the array's shape.

    float32: whole numbers are exact up to 2^24, numbers beyond float32's range become infinite (and the decoder rejects
    them as such). int64: an array of fractions or beyond 2^63 - 1 is refused.
    """
    if dtype == "float32":
        if (
            array.dtype == _FLOAT32
        ):  # without a look at the context of errors, which costs as much as the copy
            return torch.from_numpy(np.array(array, order="C"))
        with np.errstate(over="ignore"):
            return torch.from_numpy(np.array(array, dtype=np.float32, order="C"))
    if array.dtype.kind not in "biu":
        return undecodable(
            f"the array holds {array.dtype}, expected whole numbers (input.codec dtype: int64)"
        )
    if array.dtype.kind == "u" and array.size and int(array.max()) > np.iinfo(np.int64).max:
        return undecodable(f"the number {int(array.max())} does not fit 64 signed bits")
    return torch.from_numpy(np.array(array, dtype=np.int64, order="C"))


def keys_of(document: dict[str, Any]) -> str:
    """The first of an object's keys, for a message."""
    shown = [repr(key[:40]) for key in list(document)[:_SHOWN_KEYS]]
    return ", ".join([*shown, "…"] if len(document) > _SHOWN_KEYS else shown) or "none"


def _flatten(node: Any, flat: list[int | float], depth: int) -> Shape:
    """Append the numbers under `node` to `flat` in order; the shape they have."""
    if type(node) is int or type(node) is float:
        flat.append(node)
        return ()
    if not isinstance(node, list):
        raise IrregularError(f"found {_quoted(node)}, expected an array of numbers")
    if not node or depth == MOST_AXES:
        raise IrregularError("an empty array" if not node else f"more than {MOST_AXES} axes")
    first = _flatten(node[0], flat, depth + 1)
    for other in node[1:]:
        if _flatten(other, flat, depth + 1) != first:
            raise IrregularError(f"rows of different shapes at axis {depth}: a tensor has one shape")
    return (len(node), *first)


def _quoted(node: Any) -> str:
    return f"an object with {keys_of(node)}" if isinstance(node, dict) else json.dumps(node)[:40]
