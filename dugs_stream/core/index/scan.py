"""Exact maximum inner product by blocks: a float32 product finds the candidates, float64 decides.

The ground that every other strategy stands on, and falls back to. The product of a block of rows is wrong by at most
E = `error_bound(k)` an entry. Any row that could hold the maximum, or reach the floor, therefore has a product above

    max(greatest product so far − 2·E, best similarity so far − E, floor − E)

and only those rows are computed again in float64. A row left out provably cannot be the answer. Where any row ≥ floor
will do, the first block that holds one settles the query, by its earliest: so the answer is the earliest of the list.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from dugs_stream.core.index.products import Reaching, all_products, tensor_of
from dugs_stream.core.index.question import Nearest, Question, Work
from dugs_stream.core.index.rows import Rows
from dugs_stream.core.index.similarity import error_bound, similarities

# 2²¹ float32 products (8 MiB) at once: a block of 8 192 rows against 256 queries. It bounds the memory of a
# search for lists of any length, and the product is still in cache when its maxima are taken.
_PRODUCTS_AT_ONCE = 2**21
# Where any row ≥ τ will do, most duplicates find one among the first rows of the list, which repeat most often. So
# the first block is short, and each next one longer.
_FIRST_BLOCK = 4_096


def scan(question: Question, rows: Rows, known: Nearest) -> Work:
    """Compare the queries with every row; the nearest of each goes into `known`.

    Exact if the maximum reaches the floor; otherwise `known.bound` bounds it from above.
    O(m·n·k) time; memory bounded by one block, even if all rows are equal.
    """
    work = Work(asked=len(question.queries) * len(rows))
    asking = np.arange(len(question.queries))
    for start, block in growing_blocks(question, rows):
        asking = unsettled(question, known, asking)
        if not len(asking):
            break
        scan_block(question, start, block, known, asking, work)
    return work


def growing_blocks(
    question: Question, rows: Rows, start: int = 0
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """The blocks of rows to look at, from `start` on, each with the number of its first row."""
    longest = max(1, _PRODUCTS_AT_ONCE // max(1, len(question.queries)))
    length = min(_FIRST_BLOCK, longest) if question.any_above else longest
    while start < len(rows):
        _, block = next(rows.blocks(length, start))
        yield start, block
        start, length = start + len(block), min(2 * length, longest)


def scan_block(
    question: Question,
    start: int,
    block: NDArray[np.float32],
    known: Nearest,
    asking: NDArray[np.int64],
    work: Work,
) -> None:
    """Compare the queries numbered `asking` with one block of rows, the first of which is row `start`."""
    queries = question.queries[asking]
    work.full += len(asking) * len(block)
    products = all_products(tensor_of(queries), tensor_of(block))  # (m, block)
    reaching = Reaching(products)
    peaks = reaching.peaks.astype(np.float64)  # (m,)
    error = error_bound(queries.shape[1])
    known.product[asking] = np.maximum(known.product[asking], peaks)
    known.bound[asking] = np.maximum(known.bound[asking], peaks + error)
    which, column = reaching.pairs(round_down(least_product(question, known, asking, error)))
    if len(which):
        decide(question, start, block, known, asking[which], column, products.numpy()[which, column])


def decide(
    question: Question,
    start: int,
    block: NDArray[np.float32],
    known: Nearest,
    which: NDArray[np.int64],
    column: NDArray[np.int64],
    products: NDArray[np.float32],
) -> None:
    """Decide in float64 among the pairs (p,) whose float32 products leave it open.

    which numbers queries, ascending; column numbers rows of the block, ascending for each query.
    """
    error = error_bound(block.shape[1])
    near = products >= round_down(least_product(question, known, which, error))
    if question.any_above:
        near &= ~_after_a_certain_one(which, products >= question.floor + error)
    which, column = which[near], column[near]
    exact = similarities(question.queries, block, (which, column))
    if question.any_above:
        above = exact >= question.floor
        known.settle(which[above], exact[above], start + column[above])
    else:
        known.confirm(which, exact, start + column)


def least_product(
    question: Question, known: Nearest, which: NDArray[np.int64], error: float
) -> NDArray[np.float64]:
    """The least float32 product (p,) with which a row could be the answer to each query of `which` (p,)."""
    if question.any_above:
        return np.full(len(which), question.floor - error)
    least = np.maximum(known.product[which] - 2 * error, known.similarity[which] - error)
    return np.maximum(least, question.floor - error)


def least_similarity(
    question: Question, known: Nearest, which: NDArray[np.int64], error: float
) -> NDArray[np.float64]:
    """What the similarity of a row (p,) has to reach to matter to each query of `which` (p,)."""
    best = np.maximum(known.similarity[which], known.product[which] - error)
    return np.maximum(question.floor, best)


def unsettled(question: Question, known: Nearest, among: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those of the queries numbered `among` to which a further row can be the answer."""
    return among[known.position[among] < 0] if question.any_above else among


def _after_a_certain_one(which: NDArray[np.int64], is_certain: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which pairs (p,) come after one of the same query that is certain to reach the floor."""
    certain: NDArray[np.int64] = (
        np.cumsum(is_certain) - is_certain
    )  # certain ones before each pair, of all queries
    first = np.searchsorted(which, which)
    return certain > certain[first]


def round_down(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """float32 values that are never above `values`, so that a comparison in float32 loses nothing."""
    return np.nextafter(values.astype(np.float32), np.float32(-np.inf))
