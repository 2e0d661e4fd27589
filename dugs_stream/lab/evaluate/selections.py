"""Selections that uniques are compared with: each picks as many records from the same stream.

Every one is a function of a stream, given as positions (m,) among N rows in order of arrival, and of a generator; it
returns a picker, size → positions in the stream. None of them sees the labels, except where its row says so.

References: reservoir sampling is Vitter's algorithm R (1985); k-center greedy is Sener and Savarese, arXiv 1708.00489;
SemDeDup is arXiv 2303.09540; GSS-Greedy is algorithm 2 of Aljundi et al., arXiv 1903.08671.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dugs_stream.lab.evaluate.greedy import cosines_of, greedy_of_size
from dugs_stream.lab.evaluate.single_thread import single_thread

Positions = NDArray[np.int64]
Picker = Callable[[int], Positions]

_GSS_COMPARED = 10
"""Members of the buffer that a new record is held against, as in the paper."""
_LEAST = 1e-9
"""A score of opposite gradients, which would be 0 and leave nothing to draw by."""
_RECORDS_A_CLUSTER = 50
"""Of SemDeDup's k-means: clusters of about that many."""


class Selection(Protocol):
    """Picks records of a stream."""

    def __call__(self, stream: Positions, generator: np.random.Generator, /) -> Picker:
        """Prepare for one stream; the picker may be asked for several sizes."""


class GreedyUniques:
    """The greedy rule by cosine of unit rows (N, k), with τ set for the size; `thresholds` are those that it came to."""

    def __init__(self, rows: NDArray[np.float32]) -> None:
        self.thresholds: dict[int, list[float]] = {}
        self._cosines = cosines_of(rows)
        self._usable = np.asarray(rows.any(axis=1), dtype=np.bool_)

    def __call__(self, stream: Positions, _generator: np.random.Generator) -> Picker:
        """See `Selection`."""
        cosines, usable = self._cosines[np.ix_(stream, stream)], self._usable[stream]

        def pick(size: int) -> Positions:
            fitted = greedy_of_size(cosines, usable, size)
            self.thresholds.setdefault(size, []).append(fitted.threshold)
            return fitted.picks

        return pick


def random_pick(stream: Positions, generator: np.random.Generator) -> Picker:
    """A random subset."""
    return lambda size: np.sort(generator.permutation(len(stream))[:size])


def reservoir(stream: Positions, generator: np.random.Generator) -> Picker:
    """What a reservoir of that size holds after the stream."""

    def pick(size: int) -> Positions:
        held = np.arange(min(size, len(stream)))
        for place in range(size, len(stream)):
            at = int(generator.integers(place + 1))
            if at < size:
                held[at] = place
        return held

    return pick


class Ranking:
    """The records of the highest score (N,)."""

    def __init__(self, scores: NDArray[np.float64]) -> None:
        self._scores = scores

    def __call__(self, stream: Positions, _generator: np.random.Generator) -> Picker:
        """See `Selection`."""
        order = np.argsort(-self._scores[stream], kind="stable")
        return lambda size: order[:size]


class KCenterGreedy:
    """Farthest first by cosine distance of unit rows (N, d), from the stream's first record on."""

    def __init__(self, rows: NDArray[np.float32]) -> None:
        self._rows = rows

    def __call__(self, stream: Positions, _generator: np.random.Generator) -> Picker:
        """See `Selection`."""
        rows = self._rows[stream]
        order, nearest = [0], rows @ rows[0]

        def pick(size: int) -> Positions:
            while len(order) < min(size, len(rows)):
                nearest[order] = np.inf  # one that is picked is not picked again, among equal records either
                farthest = int(nearest.argmin())
                order.append(farthest)
                np.maximum(nearest, rows @ rows[farthest], out=nearest)
            return np.array(order[:size], dtype=np.int64)

        return pick


class SemDeDup:
    """Of unit rows (N, d): clusters by k-means, in each the records least similar to one nearer to the cluster's edge.

    The paper drops a record that is more similar than 1 − ε to another of its cluster, and keeps of a group the one farthest
    from the centre; here ε is set for the size.
    """

    def __init__(self, rows: NDArray[np.float32]) -> None:
        self._rows = rows

    def __call__(self, stream: Positions, generator: np.random.Generator) -> Picker:
        """See `Selection`."""
        from sklearn.cluster import KMeans  # noqa: PLC0415  an optional extra

        rows = self._rows[stream]
        clusters = max(1, min(len(rows) // _RECORDS_A_CLUSTER, len(np.unique(rows, axis=0))))
        found = KMeans(clusters, n_init=1, random_state=int(generator.integers(2**31)))
        with single_thread():
            found.fit(rows)
        redundancy = np.full(len(rows), -np.inf)
        for cluster in range(clusters):
            members = np.flatnonzero(found.labels_ == cluster)
            from_the_edge = members[
                np.argsort(rows[members] @ found.cluster_centers_[cluster], kind="stable")
            ]
            cosines = np.tril(rows[from_the_edge] @ rows[from_the_edge].T, -1) - 2 * np.triu(
                np.ones((len(members), len(members)), np.float32)
            )
            redundancy[from_the_edge] = cosines.max(axis=1, initial=-2)
        order = np.argsort(redundancy, kind="stable")
        return lambda size: order[:size]


class GssGreedy:
    """The buffer of GSS-Greedy after the stream, by cosines of gradients, unit rows (N, k)."""

    def __init__(self, rows: NDArray[np.float32]) -> None:
        self._rows = rows

    def __call__(self, stream: Positions, generator: np.random.Generator) -> Picker:
        """See `Selection`."""
        rows = self._rows[stream]

        def pick(size: int) -> Positions:
            held, scores = np.zeros(size, np.int64), np.zeros(size)
            filled = 0
            for place, row in enumerate(rows):
                if not filled:
                    score = 0.1  # the paper's implementation gives the first one this score
                else:
                    compared = generator.choice(filled, min(filled, _GSS_COMPARED), replace=False)
                    score = float((rows[held[compared]] @ row).max()) + 1
                if filled < size:
                    held[filled], scores[filled] = place, score
                    filled += 1
                elif score < 1:
                    at = int(generator.choice(size, p=(scores + _LEAST) / (scores + _LEAST).sum()))
                    if generator.random() < scores[at] / (scores[at] + max(score, _LEAST)):
                        held[at], scores[at] = place, score
            return held[:filled]

        return pick
