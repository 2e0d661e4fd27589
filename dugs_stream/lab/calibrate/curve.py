"""Share of uniques over τ: the curve, its knee, its plateau, and the τ for a wanted number of uniques.

Every point is exact for the sample: the sequential algorithm at that τ, over one matrix of cosines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dugs_stream.core.thresholds import ManyThresholds, grown

GRID: tuple[float, ...] = tuple(
    np.round(
        np.concatenate(
            [
                np.arange(-0.5, 0.0, 0.1),
                np.arange(0.0, 0.9, 0.02),
                np.arange(0.9, 0.99, 0.01),
                [0.99, 0.995, 0.999, 1.0],
            ]
        ),
        3,
    ).tolist()
)
"""Closer together where the curve is steep: most data has near copies."""

UNRELATED = 0.1
"""Cosines of unrelated gradients stay below this, or below the noise floor."""
_FINEST = 5e-5
"""Two τ nearer to each other than this are one: it is half a digit of what is printed."""
_LATE = 0.75
"""The last quarter of the sample tells what a list accepts once it is filled."""


@dataclass(frozen=True, slots=True)
class Point:
    """What τ keeps of a sample.

    of          n, the records of the sample
    rows        those of the uniques, in order
    share       of them all
    late_share  of the last quarter's records
    """

    threshold: float
    of: int
    rows: NDArray[np.int64]
    share: float
    late_share: float

    @property
    def uniques(self) -> int:
        """How many."""
        return len(self.rows)

    def expected(self, records: int) -> float:
        """How many uniques so many records would have; beyond n an estimate (`core.thresholds.grown`)."""
        return grown(self.rows, self.of, records)


class Curve:
    """Points of one sample, each computed when it is asked for."""

    def __init__(self, many: ManyThresholds) -> None:
        self._many = many
        self._points: dict[float, Point] = {}

    def at(self, threshold: float) -> Point:
        """The point at any τ."""
        if threshold not in self._points:
            rows, n = self._many.uniques(threshold), len(self._many)
            first = int(_LATE * n)
            late = int(np.count_nonzero(rows >= first))
            self._points[threshold] = Point(threshold, n, rows, len(rows) / n, late / (n - first))
        return self._points[threshold]

    def over(
        self, thresholds: Sequence[float], on_point: Callable[[int, int], None] = lambda _done, _total: None
    ) -> list[Point]:
        """The points at these τ."""
        points = []
        for done, threshold in enumerate(thresholds, start=1):
            points.append(self.at(threshold))
            on_point(done, len(thresholds))
        return points

    def nearest_to(self, uniques: float, of: int) -> Point:
        """The point at which so many of these records are uniques, or nearest to it, to four digits of τ.

        The number rises with τ but for small steps back, so a bisection finds it.
        """
        low, high = self.at(GRID[0]), self.at(1.0)
        while high.threshold - low.threshold > _FINEST:
            middle = self.at(round((low.threshold + high.threshold) / 2, 5))
            if middle.threshold in {low.threshold, high.threshold}:
                break
            low, high = (middle, high) if middle.expected(of) < uniques else (low, middle)
        return min((low, high), key=lambda point: abs(point.expected(of) - uniques))


def knee(points: Sequence[Point]) -> float | None:
    """The τ from 0 on at which the curve lies furthest below the straight line between its ends; None for a flat one.

    Below it a higher τ adds few uniques; above it many, which are ever closer to those that are there (Satopää et al. 2011).
    """
    shown = [point for point in points if point.threshold >= 0]
    thresholds = np.array([point.threshold for point in shown])
    shares = np.array([point.share for point in shown])
    if len(shown) < 3 or shares[-1] <= shares[0]:  # noqa: PLR2004  two points are their own line
        return None
    line = shares[0] + (shares[-1] - shares[0]) * (thresholds - thresholds[0]) / (
        thresholds[-1] - thresholds[0]
    )
    below = line - shares
    best = int(below.argmax())
    return float(thresholds[best]) if below[best] > 0 else None


def plateau(points: Sequence[Point], floor: float) -> float | None:
    """The τ in the middle of the stretch over which the number of uniques changes least, from the noise floor on.

    There data falls apart by itself: records are either more similar than that or less. None if even there the number
    grows by a tenth. Of equal stretches the highest, with those just below it. Where every record is unique nothing can
    change, so that end of the curve counts for nothing.
    """
    shown = [point for point in points if point.threshold >= floor and 1 < point.uniques < point.of]
    best: tuple[float, float, float] | None = None  # growth, from τ, to τ
    for place, first in enumerate(shown):
        last = next(
            (each for each in shown[place:] if each.threshold >= first.threshold + _STRETCH - _FINEST), None
        )
        if last is None:
            break
        growth = last.uniques / first.uniques
        if best is not None and growth == best[0] and first.threshold <= best[2]:
            best = growth, best[1], last.threshold
        elif best is None or growth <= best[0]:
            best = growth, first.threshold, last.threshold
    return None if best is None or best[0] > _FLAT else round((best[1] + best[2]) / 2, 4)


_STRETCH = 0.1
_FLAT = 1.1


@dataclass(frozen=True, slots=True)
class Landmarks:
    """What a curve says by itself, each None if it has none; floor: the noise floor."""

    plateau: float | None
    knee: float | None
    floor: float

    @property
    def by_use(self) -> list[tuple[str, float]]:
        """Names and τ, the best last: the knee, unless it lies among unrelated gradients; there the plateau is."""
        plateau = [] if self.plateau is None else [("plateau", self.plateau)]
        knee = [] if self.knee is None else [("knee", self.knee)]
        return plateau + knee if self._has_knee_above_noise else knee + plateau

    @property
    def are_of_use(self) -> bool:
        """Whether the last of them may be chosen without looking at it."""
        return self.plateau is not None or self._has_knee_above_noise

    @property
    def _has_knee_above_noise(self) -> bool:
        return self.knee is not None and self.knee > max(self.floor, UNRELATED)
