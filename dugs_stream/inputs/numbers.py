"""Tensors from arrays of numbers: float32 from any, int64 from whole ones."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from dugs_stream.inputs.codec import undecodable
from dugs_stream.records import Rejection


def tensor_of(array: NDArray[Any], dtype: Literal["float32", "int64"]) -> torch.Tensor | Rejection:
    """A tensor with memory of its own, in C order, of the array's shape.

    float32: whole numbers are exact up to 2^24, numbers beyond float32's range become infinite (and the decoder rejects
    them as such). int64: an array of fractions or beyond 2^63 - 1 is refused.
    """
    if dtype == "float32":
        with np.errstate(over="ignore"):
            return torch.from_numpy(np.array(array, dtype=np.float32, order="C"))
    if array.dtype.kind not in "biu":
        return undecodable(
            f"the array holds {array.dtype}, expected whole numbers (input.codec dtype: int64)"
        )
    if array.dtype.kind == "u" and array.size and int(array.max()) > np.iinfo(np.int64).max:
        return undecodable(f"the number {int(array.max())} does not fit 64 signed bits")
    return torch.from_numpy(np.array(array, dtype=np.int64, order="C"))
