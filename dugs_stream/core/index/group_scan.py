"""Certified scan of groups: cones leave few groups, their prefix rows leave few rows, and those are computed in full.

`core.index.groups` says which groups can hold a row that matters, and `core.index.prefix` which rows of them. Both
products are sparse: for each query its own few groups. Where the nearest is asked, the closest group is searched first, so
that there is a best to compare with. A query for which many groups remain is left to the prefix scan.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from dugs_stream.core.index.groups import Groups
from dugs_stream.core.index.prefix import Prefix
from dugs_stream.core.index.prefix_scan import scan_by_prefix, take_products
from dugs_stream.core.index.products import pair_products, sparse_products, tensor_of
from dugs_stream.core.index.question import Nearest, Question, Work
from dugs_stream.core.index.rows import Rows
from dugs_stream.core.index.scan import decide, least_product, least_similarity, round_down, unsettled
from dugs_stream.core.index.second_bound import SecondBound
from dugs_stream.core.index.similarity import error_bound

# A sparse product of prefix rows costs about five times as much a pair as one of all pairs.
_MOST_ROWS = 0.15
# 2²⁰ pairs at once take 32 MiB.
_PAIRS_AT_ONCE = 2**20


def scan_by_groups(
    question: Question,
    groups: Groups,
    prefix: Prefix,
    rows: Rows,
    known: Nearest,
    second: SecondBound | None = None,
) -> Work:
    """As `scan.scan`, with the same answers; the prefix covers all rows, the groups the first ones."""
    work = Work(asked=len(question.queries) * len(rows))
    asking = unsettled(question, known, np.arange(len(question.queries)))
    queries = prefix.basis.prefix_rows(question.queries)
    if not question.any_above:
        _raise_best(question, groups, queries, rows, known, work)
    level = least_similarity(question, known, asking, error_bound(rows.dimension))
    can = groups.reaching(queries[asking], level - prefix.basis.margin)
    place, group = np.divmod(np.flatnonzero(can), can.shape[1])
    pairs = np.bincount(place, weights=groups.sizes[group], minlength=len(asking)).astype(np.int64)
    is_few = pairs <= _MOST_ROWS * len(groups)
    for some in _parts(np.flatnonzero(is_few), pairs):
        number = np.full(len(asking), -1)
        number[some] = np.arange(len(some))
        here = number[place] >= 0
        _scan_groups(
            question,
            groups,
            prefix,
            queries,
            rows,
            known,
            asking[some],
            number[place[here]],
            group[here],
            work,
            second,
        )
    known.bound[asking] = np.maximum(known.bound[asking], level)
    scan_by_prefix(question, prefix, rows, known, work, asking=asking[~is_few])
    if len(groups) < len(rows):
        scan_by_prefix(question, prefix, rows, known, work, asking=asking[is_few], start=len(groups))
    return work


def _parts(which: NDArray[np.int64], pairs: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """The queries `which` in order, in parts of so few pairs that they fit into memory."""
    if len(which):
        part = np.cumsum(pairs[which]) // _PAIRS_AT_ONCE
        yield from np.split(which, np.flatnonzero(np.diff(part)) + 1)


def _raise_best(
    question: Question,
    groups: Groups,
    queries: NDArray[np.float32],
    rows: Rows,
    known: Nearest,
    work: Work,
) -> None:
    """Multiply the row of the highest bound in the closest group of each query."""
    group = groups.nearest_group(queries)
    sizes = groups.sizes[group]
    slots = _ranges(groups.starts[group], sizes)
    which = np.repeat(np.arange(len(queries)), sizes)
    work.sparse += len(which)
    bounds = pair_products(tensor_of(queries), tensor_of(groups.rows), which, slots)
    first = np.cumsum(sizes) - sizes
    highest = np.maximum.reduceat(bounds, first)
    at_highest = np.flatnonzero(bounds == highest[which])
    chosen = at_highest[np.unique(which[at_highest], return_index=True)[1]]
    _multiply(
        question, rows, known, np.arange(len(queries)), groups.order[slots[chosen]], work, are_all=False
    )


def _scan_groups(
    question: Question,
    groups: Groups,
    prefix: Prefix,
    queries: NDArray[np.float32],
    rows: Rows,
    known: Nearest,
    asking: NDArray[np.int64],
    place: NDArray[np.int64],
    group: NDArray[np.int64],
    work: Work,
    second: SecondBound | None,
) -> None:
    """Decide about the rows in the groups that query asking[place[i]] cannot do without, `place` ascending."""
    if not len(group):
        return
    sizes = groups.sizes[group]
    slots = _ranges(groups.starts[group], sizes)
    work.sparse += len(slots)
    ends = np.append(0, np.cumsum(sizes))[np.searchsorted(place, np.arange(len(asking) + 1))]
    bounds = sparse_products(tensor_of(queries[asking]), tensor_of(groups.rows), ends, slots)
    least = _least(question, known, rows, prefix.basis.margin)[asking]
    is_same = least.min() == least.max()  # as where only one row ≥ τ is asked for
    left = np.flatnonzero(bounds >= (least[0] if is_same else np.repeat(least, np.diff(ends))))
    which = np.searchsorted(ends, left, side="right") - 1
    which, position = asking[which], groups.order[slots[left]]
    if second is not None and second.pays_for(len(which)):
        work.sparse += len(which) * (second.basis.length + 1) / (prefix.basis.length + 1)
        left = second.reaching(
            question.queries, _least(question, known, rows, second.basis.margin), which, position
        )
        which, position = which[left], position[left]
    _multiply(question, rows, known, which, position, work, are_all=True)


def _least(question: Question, known: Nearest, rows: Rows, margin: float) -> NDArray[np.float32]:
    """The least bound (m,) with which a row matters to each query."""
    everyone = np.arange(len(question.queries))
    return round_down(least_similarity(question, known, everyone, error_bound(rows.dimension)) - margin)


def _multiply(
    question: Question,
    rows: Rows,
    known: Nearest,
    which: NDArray[np.int64],
    position: NDArray[np.int64],
    work: Work,
    *,
    are_all: bool,
) -> None:
    """Multiply the pairs (p,) in full, `which` ascending; if they are all that can matter, decide among them."""
    work.chosen += len(which)
    for start, stop in rows.spans():
        here = (position >= start) & (position < stop)
        if question.any_above:
            here &= known.position[which] < 0  # a row of an earlier span has settled the others
        if not here.any():
            continue
        some, column = which[here], position[here] - start
        block = rows.view(start, stop, position[here])
        products = pair_products(tensor_of(question.queries), tensor_of(block), some, column)
        take_products(known, some, products)
        if are_all:
            _decide(question, start, block, known, some, column, products)


def _decide(
    question: Question,
    start: int,
    block: NDArray[np.float32],
    known: Nearest,
    which: NDArray[np.int64],
    column: NDArray[np.int64],
    products: NDArray[np.float32],
) -> None:
    """As `scan.decide`, for columns in any order: the few that can matter are sorted."""
    error = error_bound(block.shape[1])
    near = np.flatnonzero(products >= round_down(least_product(question, known, which, error)))
    near = near[np.lexsort((column[near], which[near]))]
    decide(question, start, block, known, which[near], column[near], products[near])


def _ranges(starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers start … start + size − 1 of each, one after the other."""
    ends = np.cumsum(sizes)
    return np.repeat(starts - (ends - sizes), sizes) + np.arange(ends[-1] if len(ends) else 0)
