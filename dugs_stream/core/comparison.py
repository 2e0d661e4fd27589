"""Comparison of two gradients of one sample, parameter by parameter, with the tolerance of their precision."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

_TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-3}
"""Relative differences that rounding may cause; those of other batch sizes are usually a hundredth of it (float32). A
use of a weight that was missed changes its gradient by tenths."""

_HALF_TOLERANCE = 0.1
"""The same in float16 and bfloat16, where sums over many positions lose most."""

_NEGLIGIBLE = 1e-4
"""A gradient this small beside the whole one's norm is rounding (the bias of attention's keys), not direction."""

_ROUGHLY = 0.1
"""Beside itself a negligible gradient is off by less than this, unless the formula is wrong."""

_PIECE = 2**16
"""Numbers of which two stay in a core's cache."""

_SMALL = 1e-25
"""A sum of squares that is smaller in float32 may lack terms that vanished."""


def tolerance(dtypes: Iterable[torch.dtype]) -> float:
    """The largest relative difference that passes between gradients that were computed in these precisions."""
    return max(_TOLERANCES.get(dtype.to_real(), _HALF_TOLERANCE) for dtype in dtypes)


class Difference(NamedTuple):
    """What a gradient of one parameter has against the one that is expected.

    share     ‖found − expected‖ / ‖expected‖; 0 if no such number can be had from an overflow in half precision. A parameter
              that hardly counts in the whole gradient is measured by a ten-thousandth of its norm
    is_shown  whether the expected one, however small beside the whole, is other than zero and the one found roughly equal
    """

    share: float
    is_shown: bool


def differences(found: Sequence[Tensor], expected: Sequence[Tensor]) -> list[float]:
    """The share by which the gradient of each parameter differs."""
    return [each.share for each in compared(found, expected)]


def compared(found: Sequence[Tensor], expected: Sequence[Tensor]) -> list[Difference]:
    """The gradients of each parameter; a number stands for a tensor full of it."""
    norms = [_norm(each) for each in expected]
    finite = [norm for norm in norms if norm < float("inf")]
    least = _NEGLIGIBLE * sum(norm * norm for norm in finite) ** 0.5
    measured = []
    for left, right, norm in zip(found, expected, norms, strict=True):
        if norm == float("inf"):
            is_same = right.dtype.itemsize == 2 or _norm(left) == norm  # noqa: PLR2004
            measured.append(Difference(0.0 if is_same else float("inf"), is_shown=True))
            continue
        apart, scale = _norm(left, right), max(norm, least)
        share = apart / scale if scale else float("inf") if apart else 0.0
        measured.append(Difference(share, is_shown=norm > 0 and not apart > _ROUGHLY * norm))
    return measured


def _norm(values: Tensor, subtracted: Tensor | None = None) -> float:
    """The norm of the values, or of the difference; infinite if any number is not finite.

    On a CPU piece by piece, each in the cache: a float64 copy of a layer of 16 million weights takes as long as several
    passes of its model.
    """
    norm = sum(_square(part) for part in _parts(values, subtracted)) ** 0.5
    return norm if norm == norm else float("inf")  # noqa: PLR0124 -- NaN is not equal to itself


def _parts(values: Tensor, subtracted: Tensor | None) -> Iterator[Tensor]:
    given = (values,) if subtracted is None else torch.broadcast_tensors(values, subtracted)  # type: ignore[no-untyped-call]
    step = _PIECE if values.device.type == "cpu" else max(1, given[0].numel())
    first, *second = (each.detach().reshape(-1).split(step) for each in given)
    for place, part in enumerate(first):
        yield part - second[0][place] if second else part


def _square(part: Tensor) -> float:
    """‖part‖². In float32 where its squares neither overflow nor vanish there, which is as exact as is asked for."""
    if part.device.type == "cpu" and part.dtype == torch.float32:
        square = float(torch.dot(part, part))
        if _SMALL < square < float("inf") or not bool(part.any()):
            return square
    norm = float(torch.linalg.vector_norm(part, dtype=torch.float64))
    return norm * norm
