"""Comparison of two gradients of one sample, parameter by parameter, with the tolerance of their precision."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

_TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-3}
"""Relative differences that rounding may cause; those of other batch sizes are usually a hundredth of it (float32). A
use of a weight that was missed changes its gradient by tenths."""

_HALF_TOLERANCE = 0.1
"""The same in float16 and bfloat16, where sums over many positions lose most."""

_NEGLIGIBLE = 1e-4
"""A gradient this small beside the whole one's norm is rounding (the bias of attention's keys), not direction."""


def tolerance(dtypes: Iterable[torch.dtype]) -> float:
    """The largest relative difference that passes between gradients that were computed in these precisions."""
    return max(_TOLERANCES.get(dtype.to_real(), _HALF_TOLERANCE) for dtype in dtypes)


def differences(found: Sequence[Tensor], expected: Sequence[Tensor]) -> list[float]:
    """‖found − expected‖ / ‖expected‖ of each parameter; 0 if no such number can be had from an overflow in half precision.

    Parameters that hardly count in the whole gradient are measured by a ten-thousandth of its norm.
    """
    norms = [_norm(each) for each in expected]
    finite = [norm for norm in norms if norm < float("inf")]
    least = _NEGLIGIBLE * sum(norm * norm for norm in finite) ** 0.5
    measured = []
    for left, right, norm in zip(found, expected, norms, strict=True):
        if norm == float("inf"):
            measured.append(0.0 if right.dtype.itemsize == 2 or _norm(left) == norm else float("inf"))  # noqa: PLR2004
            continue
        apart = _norm(left - right)
        scale = max(norm, least)
        measured.append(apart / scale if scale else float("inf") if apart else 0.0)
    return measured


def negligible(gradients: Sequence[Tensor]) -> list[bool]:
    """Which parameters have too small a gradient beside the whole one for `differences` to show that it is wrong."""
    norms = [_norm(each) for each in gradients]
    finite = [norm for norm in norms if norm < float("inf")]
    least = _NEGLIGIBLE * sum(norm * norm for norm in finite) ** 0.5
    return [norm <= least for norm in norms]


def _norm(values: Tensor) -> float:
    """The norm; infinite if any number is not finite."""
    norm = float(torch.linalg.vector_norm(values.detach(), dtype=torch.float64))
    return norm if norm == norm else float("inf")  # noqa: PLR0124 -- NaN is not equal to itself
