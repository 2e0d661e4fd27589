"""Exact maximum inner product by blocks: a float32 product finds the candidates, float64 decides.

The product of a block of rows is wrong by at most E = `error_bound(k)` an entry. Any row that could hold the
maximum, or reach the floor, therefore has a product above

    max(greatest product so far − 2·E, best similarity so far − E, floor − E)

and only those rows are computed again in float64. A row left out provably cannot be the answer.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dugs_stream.core.index.similarity import error_bound, similarities

# 2²¹ float32 products (8 MiB) at once: a block of 8 192 rows against 256 queries. It bounds the memory of a
# search for lists of any length, and the product is still in cache when its maxima are taken.
_PRODUCTS_AT_ONCE = 2**21


@dataclass(slots=True)
class Nearest:
    """What is known of m queries so far.

    similarity  (m,) float64, the best confirmed one, −inf if there is none
    position    (m,) int64, its row, −1 if there is none
    product     (m,) float64, the greatest float32 product seen, −inf before the first
    """

    similarity: NDArray[np.float64]
    position: NDArray[np.int64]
    product: NDArray[np.float64]

    @classmethod
    def of_nothing(cls, queries: int) -> "Nearest":
        """Before any row was looked at."""
        return cls(np.full(queries, -np.inf), np.full(queries, -1, dtype=np.int64), np.full(queries, -np.inf))

    def confirm(
        self, which: NDArray[np.int64], similarity: NDArray[np.float64], position: NDArray[np.int64]
    ) -> None:
        """Take in exact similarities (p,) of the queries `which` (p,) with rows `position` (p,).

        The highest wins, among equals the earliest row, in any order of calls.
        """
        order = np.lexsort((position, -similarity, which))
        which, similarity, position = which[order], similarity[order], position[order]
        leads = np.ones(len(which), dtype=bool)
        leads[1:] = which[1:] != which[:-1]
        which, similarity, position = which[leads], similarity[leads], position[leads]
        best = self.similarity[which]
        better = (similarity > best) | ((similarity == best) & (position < self.position[which]))
        self.similarity[which[better]] = similarity[better]
        self.position[which[better]] = position[better]


def scan(
    queries: NDArray[np.float32],
    blocks: Iterable[tuple[int, NDArray[np.float32]]],
    known: Nearest,
    floor: float = -np.inf,
) -> None:
    """Compare queries (m, k) with every block of rows (start, (b, k)); the nearest of each goes into `known`.

    Exact if the maximum reaches `floor`; otherwise `known.product` + E bounds it from above.
    O(m·n·k) time; memory bounded by one block, even if all rows are equal.
    """
    bound = error_bound(queries.shape[1])
    for start, rows in blocks:
        products = queries @ rows.T  # (m, block)
        peaks = products.max(axis=1).astype(np.float64)  # (m,)
        np.maximum(known.product, peaks, out=known.product)
        least = np.maximum(known.product - 2 * bound, known.similarity - bound)
        least = np.maximum(least, floor - bound)
        undecided = np.flatnonzero(peaks >= least)
        within = products[undecided] >= round_down(least[undecided])[:, None]
        which, column = np.nonzero(within)
        if len(column):
            exact = similarities(queries, rows, (undecided[which], column))
            known.confirm(undecided[which], exact, start + column)


def block_rows_for(queries: int) -> int:
    """Number of rows to multiply at once with this many queries."""
    return max(1, _PRODUCTS_AT_ONCE // max(1, queries))


def round_down(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """float32 values that are never above `values`, so that a comparison in float32 loses nothing."""
    return np.nextafter(values.astype(np.float32), np.float32(-np.inf))
