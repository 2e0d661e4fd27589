"""Agglomerative clustering at a similarity: categories merge while their mean cosine is at least that.

All pairs of rows cost memory, so a long list goes in rounds: a sample of the rows that have no category is clustered,
then every row whose mean cosine to one of those categories reaches the similarity joins it. Up to 6 000 rows are one round,
which is scikit-learn's average linkage and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import AgglomerativeClustering

from dugs_stream.lab.clusters.assignment import sums_of
from dugs_stream.lab.clusters.uniques import MatrixRows, UnitRows

ROWS_A_ROUND = 6_000
"""Their pairs take 144 MB, and twice that while they merge."""

_NONE = -1
_BLOCK_ROWS = 2_048


def average_linkage(
    rows: UnitRows, similarity: float, seed: int, on_progress: Callable[[int, int], None]
) -> NDArray[np.int32]:
    """The category of each row (n,) int32; on_progress hears (rows with a category, rows)."""
    category = np.full(len(rows), _NONE, dtype=np.int32)
    random, found = np.random.default_rng(seed), 0
    while (left := np.flatnonzero(category == _NONE)).size:
        chosen = np.sort(random.permutation(left)[:ROWS_A_ROUND])
        groups = _linked(rows.take(chosen), similarity)
        category[chosen] = groups + found
        others = np.setdiff1d(left, chosen, assume_unique=True)
        if others.size:
            joined = _joined(rows, others, chosen, groups, similarity)
            category[others[joined != _NONE]] = joined[joined != _NONE] + found
        found += int(groups.max()) + 1
        on_progress(int(np.count_nonzero(category != _NONE)), len(rows))
    return category


def _linked(rows: NDArray[np.float32], similarity: float) -> NDArray[np.int32]:
    if len(rows) == 1:
        return np.zeros(1, dtype=np.int32)
    linkage = AgglomerativeClustering(
        n_clusters=None, metric="cosine", linkage="average", distance_threshold=max(0.0, 1.0 - similarity)
    )
    return np.asarray(linkage.fit_predict(rows), dtype=np.int32)


def _joined(
    rows: UnitRows,
    others: NDArray[np.int64],
    chosen: NDArray[np.int64],
    groups: NDArray[np.int32],
    similarity: float,
) -> NDArray[np.int32]:
    """For each of the others the group of highest mean cosine, if that reaches the similarity."""
    count = int(groups.max()) + 1
    means = (
        sums_of(MatrixRows(rows.take(chosen)), groups, count)
        / np.bincount(groups, minlength=count)[:, np.newaxis]
    )
    means = means.astype(np.float32)
    joined = np.full(len(others), _NONE, dtype=np.int32)
    for start in range(0, len(others), _BLOCK_ROWS):
        part = slice(start, start + _BLOCK_ROWS)
        products = rows.take(others[part]) @ means.T
        best = np.argmax(products, axis=1)
        reaches = products[np.arange(len(best)), best] >= similarity
        joined[part] = np.where(reaches, best, _NONE)
    return joined
