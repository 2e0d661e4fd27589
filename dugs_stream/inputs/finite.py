"""Refusal of samples that hold NaN or infinity, looked for in small tensors of one shape together.

By numpy, in one thread: PyTorch's own would start its threads beside those that decode.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from dugs_stream.core.samples import Inputs, leaves
from dugs_stream.records import Reason, Rejection

_SMALL = 4096
"""Numbers of a tensor that is looked at together with others; of a larger one the copy would cost more than the call."""


def infinite_among(samples: Sequence[Inputs]) -> dict[int, Rejection]:
    """The rejection of each sample, by its place, in which a floating-point number is NaN or infinite."""
    together: dict[torch.dtype, list[tuple[int, NDArray[np.floating]]]] = {}
    suspects: list[int] = []
    for place, sample in enumerate(samples):
        for leaf in _floating(sample):
            numbers = _by_numpy(leaf)
            if numbers is not None and numbers.size <= _SMALL:
                together.setdefault(leaf.dtype, []).append((place, numbers))
            elif not _is_finite(leaf, numbers):
                suspects.append(place)
    for found in together.values():
        joined = np.concatenate([numbers for _, numbers in found])
        if not np.isfinite(joined).all():
            suspects += [place for place, numbers in found if not np.isfinite(numbers).all()]
    return {place: _rejection_of(samples[place]) for place in sorted(set(suspects))}


def _floating(sample: Inputs) -> Iterator[torch.Tensor]:
    if isinstance(sample, torch.Tensor):
        if sample.is_floating_point():
            yield sample
        return
    for _, leaf in leaves(sample):
        if leaf.is_floating_point():
            yield leaf


def _by_numpy(leaf: torch.Tensor) -> NDArray[np.floating] | None:
    """The same numbers as one row; None if numpy lacks the type (bfloat16), or they are not plain rows of memory."""
    try:
        return leaf.numpy().ravel()
    except (TypeError, RuntimeError):
        return None


def _is_finite(leaf: torch.Tensor, numbers: NDArray[np.floating] | None) -> bool:
    return bool((torch.isfinite(leaf) if numbers is None else np.isfinite(numbers)).all())


def _rejection_of(sample: Inputs) -> Rejection:
    for name, leaf in leaves(sample):
        wrong = int((~torch.isfinite(leaf)).sum()) if leaf.is_floating_point() else 0
        if wrong:
            where = "" if leaf is sample else f"{name}: "
            return Rejection(
                Reason.NOT_FINITE, f"{where}{wrong} of {leaf.numel()} numbers are NaN or infinite"
            )
    raise AssertionError("the sample is finite")
