"""Greedy selection of one sample at many thresholds: the rows that would be uniques at each τ.

The products of all pairs are computed once, in float32, and serve every τ. As in `core.selection` a pair whose product lies
within the proven error bound of τ is computed again in float64, so that the uniques at each τ are exactly those of the
sequential algorithm that begins with an empty list. A list at one τ tells nothing exact about another τ: a row that is left
out at the lower one may be the nearest unique of others at the higher one. So each τ is a pass of its own, over products
that are there.
"""

import math
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dugs_stream.core.index.similarity import NORM_TOLERANCE, error_bound, require_unit_rows, similarities

_LEAST_OF_EQUALS = (1 - NORM_TOLERANCE) ** 2
"""Equal vectors are duplicates at any τ, also where rounding leaves their product below it; see `core.selection`."""
_ROWS_AT_ONCE = 512


class ManyThresholds:
    """One sample's rows (n, k) float32, unit rows in order of arrival. Takes 4·n² bytes beside them.

    Raises ValueError for other rows.
    """

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        self._vectors = require_unit_rows(vectors, vectors.shape[-1], "the vectors of a sample")
        self._error = error_bound(vectors.shape[1])

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self._vectors)

    @cached_property
    def products(self) -> NDArray[np.float32]:
        """(n, n) float32 products of all pairs, each within the error bound of its similarity."""
        n = len(self._vectors)
        products = np.empty((n, n), np.float32)
        for start in range(0, n, _ROWS_AT_ONCE):  # of both halves one is computed
            some = slice(start, min(start + _ROWS_AT_ONCE, n))
            np.matmul(self._vectors[some], self._vectors[start:].T, out=products[some, start:])
            products[start:, some] = products[some, start:].T
        return products

    def uniques(self, threshold: float, order: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """The rows that are uniques at this τ, in order; O(n) for each of them.

        order  rows (m,) that come in this order, and no others; then the places in it are told. None: all as they are
        """
        came = np.arange(len(self._vectors)) if order is None else order
        if threshold <= -1.0:  # every row reaches it, also where rounding leaves its product below
            return np.arange(min(len(came), 1), dtype=np.int64)
        is_covered, chosen = np.zeros(len(self._vectors), dtype=bool), list[int]()
        for place, row in enumerate(came.tolist()):
            if not is_covered[row]:
                chosen.append(place)
                # In order, the rows before this one are decided.
                first = row + 1 if order is None else 0
                is_covered[first:] |= self._reaching(row, threshold, first)
        return np.array(chosen, dtype=np.int64)

    def _reaching(self, row: int, threshold: float, first: int) -> NDArray[np.bool_]:
        """Which of the rows from `first` on are similar enough to this one."""
        products = self.products[row, first:]
        reaches = products >= threshold
        near = np.flatnonzero(np.abs(products - np.float32(threshold)) <= 2 * self._error)
        if near.size:
            others = near + first
            reaches[near] = self.similarity(row, others) >= threshold
            if threshold > _LEAST_OF_EQUALS:
                reaches[near] |= (self._vectors[others] == self._vectors[row]).all(axis=1)
        return reaches

    def similarity(self, row: int, others: NDArray[np.int64]) -> NDArray[np.float64]:
        """The similarities of one row to others, as verdicts give them."""
        return similarities(self._vectors, self._vectors, (np.full(len(others), row, np.int64), others))


def grown(rows: NDArray[np.int64], of: int, records: int) -> float:
    """How many uniques so many records would have, if the first `of` have these: a count up to that, an estimate beyond.

    A list grows as a power of the records, as vocabularies do (Heaps 1978); its exponent is what the second half of the
    sample added to the first. That holds for records that come mixed, and not for those sorted by class.
    """
    if records <= of:
        return float(np.count_nonzero(rows < records))
    half = np.count_nonzero(rows < of // 2)
    exponent = math.log2(len(rows) / half) if half else 1.0
    return float(min(records, len(rows) * (records / of) ** min(1.0, exponent)))
