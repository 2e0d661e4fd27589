"""Assignment of unit rows to categories by cosine, in one pass over blocks of rows.

Nothing is held but a block: rows may be mapped and larger than memory. Blocks have one size and one order, so the sums are
the same in every run.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from dugs_stream.lab.clusters.uniques import UnitRows

NO_OTHER = -1
"""The runner-up where there is a single category."""

# 4 096 rows of k = 2048 are 32 MiB: enough for a fast product.
_BLOCK_ROWS = 4_096
# A block's products with many centres take no more than about 64 MiB.
_MOST_PRODUCTS = 2**24


@dataclass(frozen=True, slots=True)
class Assignment:
    """Rows and their categories.

    category          (n,) int32, places in `centres`
    centres           (g, k) float32 unit rows: the mean direction of each category
    similarity        (n,) float32, the cosine of a row and its own centre
    other             (n,) int32, the category of the next best centre, or NO_OTHER
    other_similarity  (n,) float32, the cosine with that; −1 where there is none
    """

    category: NDArray[np.int32]
    centres: NDArray[np.float32]
    similarity: NDArray[np.float32]
    other: NDArray[np.int32]
    other_similarity: NDArray[np.float32]

    @property
    def categories(self) -> int:
        """g, how many there are."""
        return len(self.centres)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(g,) rows of each."""
        return np.bincount(self.category, minlength=self.categories)


def nearest_centres(
    rows: UnitRows, centres: NDArray[np.float32]
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """The centre of highest cosine for each row (n,), ties to the first; and the sum of each centre's rows (g, k)."""
    category = np.empty(len(rows), dtype=np.int32)
    sums = np.zeros(centres.shape, dtype=np.float64)
    for start, block in rows.blocks(_rows_at_once(len(centres))):
        here = np.argmax(block @ centres.T, axis=1).astype(np.int32)
        category[start : start + len(block)] = here
        sums += _sums(block, here, len(centres))
    return category, sums


def sums_of(rows: UnitRows, category: NDArray[np.int32], categories: int) -> NDArray[np.float64]:
    """The sum of each category's rows (g, k)."""
    sums = np.zeros((categories, rows.dimension), dtype=np.float64)
    for start, block in rows.blocks(_BLOCK_ROWS):
        sums += _sums(block, category[start : start + len(block)], categories)
    return sums


def _sums(block: NDArray[np.float32], category: NDArray[np.int32], categories: int) -> NDArray[np.float64]:
    ones = np.ones(len(block), dtype=np.float64)
    members = csr_matrix((ones, (category, np.arange(len(block)))), shape=(categories, len(block)))
    return np.asarray(members @ block, dtype=np.float64)


def directions(sums: NDArray[np.float64], before: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """Sums (g, k) at unit length; a sum of nothing, or of opposites, keeps the direction it had `before`."""
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    # Shorter than rounding, its direction would be noise.
    is_long = lengths > 1e-6  # noqa: PLR2004
    unit = np.divide(sums, lengths, out=np.zeros_like(sums), where=is_long).astype(np.float32)
    return unit if before is None else np.where(is_long, unit, before)


def assignment_of(rows: UnitRows, category: NDArray[np.int32]) -> Assignment:
    """Categories that have been found, numbered by size (ties by their first row), with centres and runners-up."""
    category, categories = _by_size(category)
    centres = directions(sums_of(rows, category, categories))
    count = len(rows)
    similarity, other_similarity = np.empty(count, np.float32), np.full(count, -1.0, np.float32)
    other = np.full(count, NO_OTHER, np.int32)
    for start, block in rows.blocks(_rows_at_once(categories)):
        stop, line = start + len(block), np.arange(len(block))
        products = block @ centres.T
        own = category[start:stop]
        similarity[start:stop] = products[line, own]
        if categories > 1:
            products[line, own] = -np.inf
            other[start:stop] = np.argmax(products, axis=1)
            other_similarity[start:stop] = products[line, other[start:stop]]
    return Assignment(category, centres, similarity, other, other_similarity)


def _rows_at_once(categories: int) -> int:
    return max(1, min(_BLOCK_ROWS, _MOST_PRODUCTS // max(1, categories)))


def _by_size(category: NDArray[np.int32]) -> tuple[NDArray[np.int32], int]:
    """Numbers 0 … g − 1 without a hole, the largest category first."""
    names, first, number, sizes = np.unique(
        category, return_index=True, return_inverse=True, return_counts=True
    )
    order = np.lexsort((first, -sizes))
    place = np.empty(len(names), dtype=np.int32)
    place[order] = np.arange(len(names), dtype=np.int32)
    return place[number.reshape(-1)], len(names)
