"""Spherical k-means: scikit-learn's k-means on unit rows, then rounds by cosine with centres of unit length.

Rows are directions, so a centre is one too: a mean of unit rows is shorter the more its rows disagree, and by Euclidean
distance such a short centre would attract rows that point elsewhere. scikit-learn finds the start (k-means++, several
restarts, mini-batches for long lists); each round after it gives every row to the centre of highest cosine and turns every
centre into the mean direction of its rows, until no row moves. On one thread: threads would add in another order each time,
and a seed gives one answer.

Source: Dhillon and Modha, "Concept decompositions for large sparse text data using clustering", 2001.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from dugs_stream.lab.clusters.assignment import directions, nearest_centres
from dugs_stream.lab.clusters.uniques import UnitRows

MINI_BATCHES_FROM = 20_000
"""Rows from which on the start comes from mini-batches: below, all rows together take seconds."""

# Restarts of a short list cost next to nothing, and the best of ten is rarely a bad one.
_RESTARTS, _FEWER_RESTARTS, _SHORT_LIST = 10, 2, 2_000
_MINI_BATCH_ROWS = 4_096
_RESTARTS_OF_SAMPLE = 5
# A draw is one look at each of so many rows: enough for centres that the rounds below settle.
_ROWS_DRAWN = 100_000
# A list that still moves after so many rounds moves by single rows.
_ROUNDS, _ROUNDS_OF_LONG_LISTS = 50, 12


def spherical_kmeans(
    rows: UnitRows,
    categories: int,
    seed: int,
    *,
    restarts: int | None = None,
    wants_stop: Callable[[], bool] = lambda: False,
) -> NDArray[np.int32]:
    """The category of each row (n,) int32, of at most `categories`: fewer if rows are equal.

    rows        (n, k) float32 unit rows, n ≥ categories
    restarts    of a list too short for mini-batches; None: as many as its length suggests
    wants_stop  asked between two rounds of a longer list, the last of which then counts
    """
    is_long = len(rows) >= MINI_BATCHES_FROM
    with one_thread():
        if is_long:
            start = _start_by_batches(rows, categories, seed)
            return _rounds(rows, start, _ROUNDS_OF_LONG_LISTS, wants_stop)
        start = _start(rows.all(), categories, seed, restarts)
        return _rounds(rows, start, _ROUNDS, lambda: False)


def _rounds(
    rows: UnitRows, start: NDArray[np.float32], most: int, wants_stop: Callable[[], bool]
) -> NDArray[np.int32]:
    centres = directions(start.astype(np.float64))
    before: NDArray[np.int32] | None = None
    for _ in range(most):
        category, sums = nearest_centres(rows, centres)
        if (before is not None and np.array_equal(category, before)) or wants_stop():
            break
        before, centres = category, directions(sums, centres)
    return category


def _start(
    rows: NDArray[np.float32], categories: int, seed: int, restarts: int | None
) -> NDArray[np.float32]:
    usual = _RESTARTS if len(rows) <= _SHORT_LIST else _FEWER_RESTARTS
    found = KMeans(categories, n_init=restarts or usual, max_iter=100, random_state=seed, copy_x=True).fit(
        rows
    )
    return np.asarray(found.cluster_centers_, dtype=np.float32)


def _start_by_batches(rows: UnitRows, categories: int, seed: int) -> NDArray[np.float32]:
    """k-means of a sample, then mini-batches of rows in random order."""
    size = max(_MINI_BATCH_ROWS, 4 * categories)
    drawn = np.random.default_rng(seed).permutation(len(rows))[: max(_ROWS_DRAWN, 4 * size)]
    start = _start(rows.take(np.sort(drawn[:size])), categories, seed, _RESTARTS_OF_SAMPLE)
    found = MiniBatchKMeans(categories, init=start, n_init=1, batch_size=size, random_state=seed)
    for first in range(0, len(drawn) - categories + 1, size):
        found.partial_fit(rows.take(np.sort(drawn[first : first + size])))
    return np.asarray(found.cluster_centers_, dtype=np.float32)


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for scikit-learn and products; and no warning that there are fewer distinct rows than categories."""
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield
