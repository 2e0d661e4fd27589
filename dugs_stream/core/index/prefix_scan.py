"""Certified prefix scan: short products bound all rows from above, and few rows are computed in full.

A block of prefix rows is multiplied first (`core.index.prefix`). A row whose bound lies below the floor, or below the best
similarity found so far, cannot be the answer. The others are multiplied in full, as a sparse product, and decided as
in the plain scan. Where the nearest is asked, the row of the highest bound of each block goes first, so that the bound
bites early. Where the bound spares too little of a block, the block is multiplied as in the plain scan: a block
costs at most one short product more.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dugs_stream.core.index.costs import pair_cost, product_cost
from dugs_stream.core.index.prefix import Prefix
from dugs_stream.core.index.products import Reaching, all_products, pair_products, tensor_of
from dugs_stream.core.index.question import Nearest, Question, Work
from dugs_stream.core.index.rows import Rows
from dugs_stream.core.index.scan import (
    decide,
    growing_blocks,
    least_similarity,
    round_down,
    scan_block,
    unsettled,
)
from dugs_stream.core.index.similarity import error_bound

# Collecting the rows that reach the bound from more than half of the strips costs more than it can spare.
_MOST_STRIPS = 0.5


def scan_by_prefix(
    question: Question,
    prefix: Prefix,
    rows: Rows,
    known: Nearest,
    work: Work,
    asking: NDArray[np.int64] | None = None,
    start: int = 0,
) -> None:
    """As `scan.scan`, with the same answers, for the queries numbered `asking` and the rows from `start` on.

    The prefix covers all rows. `known.bound` is less tight than that of the plain scan.
    """
    asking = np.arange(len(question.queries)) if asking is None else asking
    if not len(asking):
        return
    queries = prefix.basis.prefix_rows(question.queries)
    for first, short in growing_blocks(question, prefix.rows, start):
        asking = unsettled(question, known, asking)
        if not len(asking):
            break
        work.bounded += len(asking) * len(short)
        bounds = Reaching(all_products(tensor_of(queries[asking]), tensor_of(short)))
        span = _Span(rows, first, first + len(short))
        if not question.any_above:
            _raise_best(question, bounds, span, known, asking)
        _scan_span(question, bounds, span, known, asking, prefix.basis.margin, work)


@dataclass(frozen=True, slots=True)
class _Span:
    """Rows start … stop − 1 of the list."""

    rows: Rows
    start: int
    stop: int

    def with_only(self, column: NDArray[np.int64]) -> NDArray[np.float32]:
        """The span's rows, of which only those at these places will be read."""
        return self.rows.view(self.start, self.stop, self.start + column)


def _scan_span(
    question: Question,
    bounds: Reaching,
    span: _Span,
    known: Nearest,
    asking: NDArray[np.int64],
    margin: float,
    work: Work,
) -> None:
    """Decide about the rows of a span that the bound leaves."""
    dimension = span.rows.dimension
    least = round_down(least_similarity(question, known, asking, error_bound(dimension)) - margin)
    known.bound[asking] = np.maximum(known.bound[asking], bounds.peaks.astype(np.float64) + margin)
    share = bounds.share_of_strips(least)
    if not share:
        return
    which, column = bounds.pairs(least) if share <= _MOST_STRIPS else (asking[:0], asking[:0])
    pairs = len(asking) * (span.stop - span.start)
    if share > _MOST_STRIPS or len(which) * pair_cost(dimension) > pairs * product_cost(dimension):
        for start, block in span.rows.blocks(span.stop - span.start, span.start, span.stop):
            scan_block(question, start, block, known, asking, work)
        return
    work.chosen += len(which)
    block = span.with_only(column)
    products = pair_products(tensor_of(question.queries[asking]), tensor_of(block), which, column)
    take_products(known, asking[which], products)
    decide(question, span.start, block, known, asking[which], column, products)


def _raise_best(
    question: Question, bounds: Reaching, span: _Span, known: Nearest, asking: NDArray[np.int64]
) -> None:
    """Multiply the row of the highest bound for each query, so that there is a best to compare with."""
    column = bounds.peak_columns()
    block = tensor_of(span.with_only(column))
    products = pair_products(tensor_of(question.queries[asking]), block, np.arange(len(asking)), column)
    known.product[asking] = np.maximum(known.product[asking], products)


def take_products(known: Nearest, which: NDArray[np.int64], products: NDArray[np.float32]) -> None:
    """The greatest product of each query of `which` (p,), ascending, goes into `known`."""
    first = np.flatnonzero(np.diff(which, prepend=-1))
    if len(first):
        leads = which[first]
        known.product[leads] = np.maximum(known.product[leads], np.maximum.reduceat(products, first))
