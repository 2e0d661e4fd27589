"""Control experiments of the demo: classes found by random picks, and by a run without labels.

The gradient of a sample with its given label points along that label's row of the last layer, so uniques
with given labels find the classes almost by construction. The controls are random picks of equal size, and a
run without labels, counted by the true classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_DRAWS = 1_000  # the mean's standard error is then below 0.04 classes of ten; takes about 0.1 s


@dataclass(frozen=True, slots=True)
class RandomPicks:
    """Classes among `size` random records: mean, and 5th and 95th percentile over `draws` draws."""

    size: int
    draws: int
    mean: float
    low: int
    high: int


def random_picks(classes: Sequence[str], size: int, *, draws: int = _DRAWS, seed: int = 0) -> RandomPicks:
    """Classes among `size` records drawn without replacement, over many draws.

    classes  the class of every record of the stream
    Each draw is by NumPy's default generator from (seed, draw), so any one can be repeated alone. A size
    beyond the stream draws all of it. Raises ValueError for a negative size or no draws.
    """
    if size < 0 or draws < 1:
        raise ValueError(f"size {size} and draws {draws}: expected size ≥ 0 and draws ≥ 1")
    codes = np.unique(np.asarray(classes, dtype=np.str_), return_inverse=True)[1]
    picked = min(size, len(codes))
    found = np.array([_classes_of_draw(codes, picked, (seed, draw)) for draw in range(draws)])
    # percentiles that are counts of classes themselves, not interpolated
    low, high = np.quantile(found, [0.05, 0.95], method="inverted_cdf")
    return RandomPicks(picked, draws, float(found.mean()), int(low), int(high))


def _classes_of_draw(codes: NDArray[np.intp], size: int, seed: tuple[int, int]) -> int:
    drawn = np.random.default_rng(seed).choice(codes, size, replace=False)
    return len(np.unique(drawn))


def picks_until_all(classes: Iterable[str], wanted: int) -> int | None:
    """How many picks of these classes, in their order, it takes to see `wanted` of them; None if they never do."""
    seen: set[str] = set()
    for count, each in enumerate(classes, start=1):
        seen.add(each)
        if len(seen) >= wanted:
            return count
    return None
