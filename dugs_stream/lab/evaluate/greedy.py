"""Greedy rule on a matrix of cosines, with τ found for a wanted number of uniques.

The rule is that of `core.selection`, on float32 cosines that are all there at once: τ is searched for, so what a last bit
decides here is which of two nearly equal thresholds gives that number.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_RESOLUTION = 1e-6
"""Of τ: about that of a float32 cosine of some hundred numbers."""


class Fitted(NamedTuple):
    """Positions of the picks in order of arrival, and the τ that gives them."""

    picks: NDArray[np.int64]
    threshold: float


def greedy(cosines: NDArray[np.float32], usable: NDArray[np.bool_], threshold: float) -> NDArray[np.int64]:
    """Positions of the uniques at τ among m records in order: cosines (m, m), usable (m,) → (u,).

    A record that is not usable (it has no direction) is never one. A record with a cosine of 1 to an earlier unique, up to
    rounding, is a duplicate at any τ, as equal vectors are for the daemon.
    """
    bound = min(threshold, _EQUAL)
    nearest = np.where(usable, -np.inf, np.inf).astype(np.float32)
    picks: list[int] = []
    start = 0
    while True:
        below = nearest[start:] < bound
        step = int(below.argmax()) if len(below) else 0
        if not len(below) or not below[step]:
            return np.array(picks, dtype=np.int64)
        start += step
        picks.append(start)
        np.maximum(nearest, cosines[start], out=nearest)
        start += 1


_EQUAL = 1 - 1e-6
"""Products of equal float32 unit rows differ from 1 by less."""


def greedy_of_size(cosines: NDArray[np.float32], usable: NDArray[np.bool_], size: int) -> Fitted:
    """The uniques at the lowest τ that gives `size` of them, the first `size`; fewer if even τ = 1 gives fewer."""
    low, high = -1.0, 1.0
    picks = greedy(cosines, usable, high)
    if len(picks) < size:
        return Fitted(picks, high)
    while high - low > _RESOLUTION:
        middle = (low + high) / 2
        found = greedy(cosines, usable, middle)
        if len(found) >= size:
            high, picks = middle, found
        else:
            low = middle
    return Fitted(picks[:size], high)


def cosines_of(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """(m, m) cosines of unit rows (m, k)."""
    return np.asarray(rows @ rows.T, dtype=np.float32)


def unit_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of norm 1; a zero row stays one."""
    norms = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    return (rows / np.where(norms > 0, norms, 1)).astype(np.float32)
