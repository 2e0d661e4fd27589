"""Exact nearest rows of a short list: one product, the greatest of each query, and float64 for what they leave open.

The answers are those of `core.index.scan`, by the same bound E: a row that is left out has a product more than 2·E below the
greatest, or more than E below the floor. What a long list needs besides would cost more here than the product itself.
"""

import numpy as np
from numpy.typing import NDArray

from dugs_stream.core.index.products import products_by_row
from dugs_stream.core.index.question import Nearest, Question
from dugs_stream.core.index.rows import Rows
from dugs_stream.core.index.scan import round_down
from dugs_stream.core.index.similarity import error_bound, similarities

_MOST_ROWS = 4_096
# 4 MiB of products are still in cache when the greatest are taken, and so many pairs of equal rows take 24 MiB.
_MOST_PRODUCTS = 2**20


def is_short(rows: Rows, queries: int) -> bool:
    """Whether one product of all rows with so many queries, one or more, is the quickest way to the answer."""
    return 0 < len(rows) <= _MOST_ROWS and len(rows) * queries <= _MOST_PRODUCTS


def search_few(question: Question, rows: Rows, known: Nearest) -> None:
    """As `scan.scan` of all rows, with the same answers; nothing is known before. At least one query and one row."""
    blocks = [block for _, block in rows.blocks(_MOST_ROWS)]
    parts = [products_by_row(question.queries, block) for block in blocks]
    products = parts[0] if len(parts) == 1 else np.concatenate(parts)  # (n, m)
    error, peak = error_bound(rows.dimension), products.max(axis=0).astype(np.float64)  # (m,)
    known.product, known.bound = peak, peak + error
    lowest = question.floor - error
    least = np.maximum(peak - 2 * error, lowest) if not question.any_above else np.full(len(peak), lowest)
    near = np.flatnonzero(products >= round_down(least))
    if not len(near):
        return
    row, which = np.divmod(near, len(peak))
    if question.any_above:
        _settle_by_earliest(question, rows, known, which, row)
        return
    exact = _similarities(question, rows, which, row)
    if len(near) == np.count_nonzero(peak >= lowest):  # one row each
        known.similarity[which], known.position[which] = exact, row
    else:
        known.confirm(which, exact, row)


def _settle_by_earliest(
    question: Question, rows: Rows, known: Nearest, which: NDArray[np.int64], row: NDArray[np.int64]
) -> None:
    """Settle each query of the pairs (p,), `row` ascending, by the earliest row that reaches the floor."""
    earliest = np.full(len(question.queries), -1)
    earliest[which[::-1]] = row[::-1]
    asking = np.flatnonzero(earliest >= 0)
    exact = _similarities(question, rows, asking, earliest[asking])
    above = exact >= question.floor
    known.similarity[asking[above]], known.position[asking[above]] = exact[above], earliest[asking[above]]
    if not above.all():  # it lies within the error of the floor; a later row may reach it
        left = known.position[which] < 0
        which, row = which[left], row[left]
        exact = _similarities(question, rows, which, row)
        above = exact >= question.floor
        known.settle(which[above], exact[above], row[above])


def _similarities(
    question: Question, rows: Rows, which: NDArray[np.int64], row: NDArray[np.int64]
) -> NDArray[np.float64]:
    return similarities(question.queries, rows.take(row), (which, np.arange(len(row))))
