"""Agglomerative clustering at a similarity: categories merge while their mean cosine is at least that.

All pairs of rows cost memory, so a long list goes in rounds: a sample of the rows that have no category is clustered,
then every row whose mean cosine to one of those categories reaches the similarity joins it. Up to 6 000 rows are one round,
which is scikit-learn's average linkage and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import AgglomerativeClustering

from dugs_stream.lab.clusters.assignment import sums_of
from dugs_stream.lab.clusters.uniques import MatrixRows, UnitRows

ROWS_A_ROUND = 6_000
"""Their pairs take 144 MB, and twice that while they merge."""

_NONE = -1
_BLOCK_ROWS = 2_048


class Merged(NamedTuple):
    """The category of each row (n,) int32, and how many rows had one before a stop: the others joined the most similar."""

    category: NDArray[np.int32]
    merged: int


def average_linkage(
    rows: UnitRows,
    similarity: float,
    seed: int,
    on_progress: Callable[[int, int], None],
    wants_stop: Callable[[], bool] = lambda: False,
) -> Merged:
    """The categories; on_progress hears (rows with a category, rows), and a stop is heard after a round."""
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
        merged = int(np.count_nonzero(category != _NONE))
        on_progress(merged, len(rows))
        if merged < len(rows) and wants_stop():
            return Merged(_all_joined(rows, category, found), merged)
    return Merged(category, len(rows))


def _all_joined(rows: UnitRows, category: NDArray[np.int32], found: int) -> NDArray[np.int32]:
    """The categories once every row without one has joined that of highest mean cosine, however low this is."""
    chosen = np.flatnonzero(category != _NONE)
    others = np.flatnonzero(category == _NONE)
    sums = np.zeros((found, rows.dimension))
    for start, block in rows.blocks(_BLOCK_ROWS):
        own = category[start : start + len(block)]
        np.add.at(sums, own[own != _NONE], block[own != _NONE])
    means = (sums / np.bincount(category[chosen], minlength=found)[:, np.newaxis]).astype(np.float32)
    whole = category.copy()
    for start in range(0, len(others), _BLOCK_ROWS):
        part = others[start : start + _BLOCK_ROWS]
        whole[part] = np.argmax(rows.take(part) @ means.T, axis=1)
    return whole


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
