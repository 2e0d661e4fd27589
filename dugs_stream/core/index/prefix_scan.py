"""Certified prefix scan: short products bound all rows from above, and few rows are computed in full.

A block of prefix rows is multiplied first (`core.index.prefix`). A row whose bound lies below the floor, or below the best
similarity found so far, cannot be the answer. The others are multiplied in full, as a sparse product, and decided as
in the plain scan. Where the nearest is asked, the row of the highest bound of each block goes first, so that the bound
bites early. Where the bound spares too little of a block, the block is multiplied as in the plain scan: a block
costs at most one short product more.
"""

import numpy as np
from numpy.typing import NDArray

from dugs_stream.core.index.costs import pair_cost, product_cost
from dugs_stream.core.index.prefix import Prefix
from dugs_stream.core.index.products import Reaching, all_products, pair_products, tensor_of
from dugs_stream.core.index.question import Nearest, Question, Work
from dugs_stream.core.index.rows import Rows
from dugs_stream.core.index.scan import decide, round_down, scan_block, spans, unsettled
from dugs_stream.core.index.similarity import error_bound

# Collecting the rows that reach the bound from more than half of the strips costs more than it can spare.
_MOST_STRIPS = 0.5


def scan_by_prefix(question: Question, prefix: Prefix, rows: Rows, known: Nearest) -> Work:
    """As `scan.scan`, with the same answers; the prefix covers all rows.

    `known.bound` is less tight than that of the plain scan.
    """
    work = Work(asked=len(question.queries) * len(rows))
    queries = prefix.basis.prefix_rows(question.queries)
    for start, stop in spans(question, rows, prefix.rows):
        asking = unsettled(question, known)
        if not len(asking):
            break
        _scan_block(question, prefix, queries, rows, known, (start, stop), asking, work)
    return work


def _scan_block(
    question: Question,
    prefix: Prefix,
    prefix_queries: NDArray[np.float32],
    rows: Rows,
    known: Nearest,
    span: tuple[int, int],
    asking: NDArray[np.int64],
    work: Work,
) -> None:
    start, stop = span
    short = prefix.rows.view(start, stop)
    work.bounded += len(asking) * len(short)
    bounds = Reaching(all_products(tensor_of(prefix_queries[asking]), tensor_of(short)))
    if not question.any_above:
        _raise_best(question, bounds, rows, known, span, asking)
    margin = prefix.basis.margin
    error = error_bound(rows.dimension)
    best = np.maximum(known.similarity[asking], known.product[asking] - error)
    least32 = round_down(np.maximum(question.floor, best) - margin)
    peaks = bounds.peaks
    known.bound[asking] = np.maximum(known.bound[asking], peaks.astype(np.float64) + margin)
    if not (peaks >= least32).any():
        return
    if bounds.share_of_strips(least32) > _MOST_STRIPS:
        scan_block(question, start, rows.view(start, stop), known, asking, work)
        return
    which, column = bounds.pairs(least32)
    if len(which) * pair_cost(rows.dimension) > len(asking) * len(short) * product_cost(rows.dimension):
        scan_block(question, start, rows.view(start, stop), known, asking, work)
        return
    work.chosen += len(which)
    block = rows.view(start, stop, touched=column)
    products = pair_products(tensor_of(question.queries[asking]), tensor_of(block), which, column)
    _take_products(known, asking[which], products)
    decide(question, start, block, known, asking[which], column, products)


def _raise_best(
    question: Question,
    bounds: Reaching,
    rows: Rows,
    known: Nearest,
    span: tuple[int, int],
    asking: NDArray[np.int64],
) -> None:
    """Multiply the row of the highest bound for each query, so that there is a best to compare with."""
    column = bounds.peak_columns()
    start, stop = span
    block = rows.view(start, stop, touched=column)
    which = np.arange(len(asking))
    products = pair_products(tensor_of(question.queries[asking]), tensor_of(block), which, column)
    known.product[asking] = np.maximum(known.product[asking], products)


def _take_products(known: Nearest, which: NDArray[np.int64], products: NDArray[np.float32]) -> None:
    """The greatest product of each query of `which` (p,), ascending, goes into `known`."""
    first = np.flatnonzero(np.diff(which, prepend=-1))
    if len(first):
        leads = which[first]
        known.product[leads] = np.maximum(known.product[leads], np.maximum.reduceat(products, first))
