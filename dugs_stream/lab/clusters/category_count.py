"""The number of categories by silhouette: k-means of a sample at each candidate, scored by cosine distance.

A silhouette compares how near a row is to its own category and to the next one: 1 for far apart, 0 for none. Source:
Rousseeuw, "Silhouettes: a graphical aid to the interpretation and validation of cluster analysis", 1987.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import silhouette_score

from dugs_stream.lab.clusters.spherical_kmeans import spherical_kmeans
from dugs_stream.lab.clusters.uniques import MatrixRows, UnitRows

# Each candidate clusters this many rows, from so many starts, and scores so many of them.
_CLUSTERED_ROWS = 4_000
_RESTARTS = 3
_SCORED_ROWS = 2_000
# From here on the candidates lie about a tenth apart: neighbours hardly differ.
_EACH_UP_TO = 16
_STEP = 1.1
# Around a best number of hundreds each of its neighbours would cost minutes, and tell no more than some of them.
_MOST_BETWEEN = 16


class Score(NamedTuple):
    """A number of categories and its silhouette, −1 to 1."""

    categories: int
    silhouette: float


def candidates(fewest: int, most: int) -> list[int]:
    """Numbers from fewest to most: each one up to 16, then about a tenth apart, the last always."""
    found, at = [], fewest
    while at < most:
        found.append(at)
        at = at + 1 if at < _EACH_UP_TO else max(at + 1, round(at * _STEP))
    return [*found, most] if fewest <= most else []


def between(tried: Sequence[int], number: int) -> list[int]:
    """The numbers left out between a number that was tried and its neighbours; of many some, evenly apart."""
    place = tried.index(number)
    lower, upper = tried[max(0, place - 1)], tried[min(len(tried) - 1, place + 1)]
    left_out = [each for each in range(lower, upper + 1) if each not in tried]
    return left_out[:: -(-len(left_out) // _MOST_BETWEEN) or 1]


class Scoring:
    """The silhouettes of one list's sample: clusters it for each number, and scores a part of it."""

    def __init__(self, rows: UnitRows, seed: int) -> None:
        self._sample, self._seed = sampled(rows, _CLUSTERED_ROWS, seed), seed
        shuffled = np.random.default_rng(seed).permutation(len(self._sample))
        self._scored = shuffled[:_SCORED_ROWS].astype(np.int64)
        self._distances = _cosine_distances(self._sample.take(self._scored))

    def score(self, number: int) -> Score | None:
        """The silhouette of so many categories; None where there is none, as of rows that are all equal."""
        category = spherical_kmeans(self._sample, number, self._seed, restarts=_RESTARTS)[self._scored]
        if not 1 < len(np.unique(category)) < len(category):
            return None
        return Score(number, float(silhouette_score(self._distances, category, metric="precomputed")))


def best(scores: Sequence[Score]) -> int:
    """The number of the highest score, ties to the smaller; 1 without scores."""
    return min(scores, key=lambda score: (-score.silhouette, score.categories)).categories if scores else 1


def sampled(rows: UnitRows, most: int, seed: int) -> UnitRows:
    """All rows, or a random choice of them in their order."""
    if len(rows) <= most:
        return rows
    return MatrixRows(rows.take(np.sort(np.random.default_rng(seed).permutation(len(rows))[:most])))


def _cosine_distances(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 − cosine of each pair (n, n); equal rows lie at exactly 0."""
    distances: NDArray[np.float32] = np.maximum(1.0 - rows @ rows.T, 0.0).astype(np.float32)
    np.fill_diagonal(distances, 0.0)
    return distances
