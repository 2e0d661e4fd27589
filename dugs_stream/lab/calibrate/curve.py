"""Share of uniques over τ: the curve, its knee, its plateau, and the τ for a wanted number of uniques.

Every point is exact for the sample: the sequential algorithm at that τ, over one matrix of cosines. What other records of
the same kind would give is an estimate: the mean over several orders of the sample, with an interval from its halves.
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


_ORDERS = 5
"""The sample's own and four others: which records are unique depends on the order, and a number of 20 in one order is off by a tenth."""
_SPLITS = 10
_STUDENT = 2.228
"""Of t with as many degrees of freedom: 95 % lie within so many standard deviations."""
_BOTH = 2.0
"""Variance of another sample's number about ours, in variances of one number: that of each, though our mean over orders has less."""
_LEAST_FOR_HALVES = 20


class Curve:
    """Points of one sample, each computed when it is asked for."""

    def __init__(self, many: ManyThresholds) -> None:
        self._many = many
        self._points: dict[float, Point] = {}
        random = np.random.default_rng(0)
        self._orders = [random.permutation(len(many)) for _ in range(_ORDERS - 1)]
        self._halves = [np.array_split(random.permutation(len(many)), 2) for _ in range(_SPLITS)]

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

    def expected(self, threshold: float, of: int) -> float:
        """How many uniques so many records have at this τ: the mean over orders of the sample; beyond it an estimate."""
        n = len(self._many)
        orders = [self.at(threshold).rows, *(self._many.uniques(threshold, each) for each in self._orders)]
        return float(np.mean([grown(rows, n, of) for rows in orders]))

    def among_others(self, threshold: float, of: int) -> tuple[float, float] | None:
        """Between which numbers 95 % of other samples of so many records are expected; None beyond the sample, or if it is tiny.

        Two halves of the sample are two samples: their numbers say how far those of others vary, in proportion to the number.
        """
        if len(self._many) < max(_LEAST_FOR_HALVES, of):
            return None
        pairs = np.array(
            [[len(self._many.uniques(threshold, half)) for half in halves] for halves in self._halves], float
        )
        expected = self.expected(threshold, of)
        variance = float(np.square(pairs[:, 0] - pairs[:, 1]).mean()) / 2 * expected / float(pairs.mean())
        half = _STUDENT * (_BOTH * variance) ** 0.5
        return max(0.0, expected - half), min(float(of), expected + half)

    def nearest_to(self, uniques: float, of: int) -> Point:
        """The point at which so many of these records are uniques, or nearest to it, to four digits of τ.

        The number rises with τ but for small steps back, so a bisection finds it.
        """
        low, high = GRID[0], 1.0
        while high - low > _FINEST:
            middle = round((low + high) / 2, 5)
            if middle in {low, high}:
                break
            low, high = (middle, high) if self.expected(middle, of) < uniques else (low, middle)
        return self.at(min((low, high), key=lambda each: abs(self.expected(each, of) - uniques)))


def knee(points: Sequence[Point]) -> float | None:
    """The τ from 0 on at which the curve lies furthest below the straight line between its ends (Satopää et al. 2011).

    Below it a higher τ adds few uniques; above it many, which are ever closer to those that are there. None for a flat curve, and for
    one that lies further above that line than below it: it rises most at a low τ, and what dips below the line there is no bend.
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
    return float(thresholds[best]) if below[best] > max(0.0, -below.min()) else None


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
