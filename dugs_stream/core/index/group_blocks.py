"""Rows of groups in blocks of 16 for the native kernel, and the scan of them on as many threads as torch computes with.

The answers are those of `core.index.group_scan`. The kernel finds the few rows that can be the answer, by the same bounds;
float64 decides among them as everywhere. Queries are split among threads; each is answered by itself, so no answer depends on their
number. Needs numba, the extra `fast`; without it nothing here is imported.
"""

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dugs_stream.core.index.costs import followed_cost, lane_cost, prefix_cost, product_cost
from dugs_stream.core.index.groups import Groups
from dugs_stream.core.index.kernel import search
from dugs_stream.core.index.lanes import LANES, UNROLLED
from dugs_stream.core.index.prefix import Prefix, PrefixBasis
from dugs_stream.core.index.prefix_scan import scan_by_prefix
from dugs_stream.core.index.products import tensor_of
from dugs_stream.core.index.question import Nearest, Question, Work
from dugs_stream.core.index.rows import Rows
from dugs_stream.core.index.scan import unsettled
from dugs_stream.core.index.similarity import error_bound, similarities

# Fewer queries take about as long as handing them to a thread.
_LEAST_QUERIES_A_THREAD = 8
# Room for the pairs that can be the answer: a handful a query, unless rows are equal. A query that finds no room goes another way.
_PAIRS, _PAIRS_A_QUERY = 4_096, 64
# Of what a plain scan costs, so much may be lost with a query that is given up.
_LOST_SHARE = 0.25
# So many pairs are decided at once: 2 MiB of rows at k = 512.
_DECIDED_AT_ONCE = 1_024


@dataclass(frozen=True, slots=True)
class _Found:
    """What the kernel found for the queries first … last − 1 of a question."""

    which: NDArray[np.int64]
    position: NDArray[np.int64]
    bounded: int
    multiplied: int


class GroupBlocks:
    """The rows of groups, 16 beside each other; groups without rows are left out. Memory: 4·n·(d + 3) bytes and a quarter more."""

    def __init__(self, groups: Groups) -> None:
        kept = np.flatnonzero(groups.sizes)
        sizes = groups.sizes[kept]
        first_block = _ends(-(-sizes // LANES))
        slot = np.arange(len(groups)) - np.repeat(_ends(sizes)[:-1], sizes)
        self._length = -(-groups.rows.shape[1] // UNROLLED) * UNROLLED
        blocks = _side_by_side(
            groups.rows, np.repeat(first_block[:-1], sizes) + slot // LANES, slot % LANES, self._length
        )
        directions, cosine, sine, widest = groups.cones()
        number = np.arange(len(kept))
        cones = _side_by_side(directions[kept], number // LANES, number % LANES, self._length)
        self._tables = (
            *(blocks, cones, first_block, _ends(sizes), cosine[kept], sine[kept], -np.cos(widest)),
            groups.order,
        )
        self._directions: NDArray[np.float64] | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._workers = 0

    def __len__(self) -> int:
        return len(self._tables[-1])

    @property
    def bytes(self) -> int:
        """Memory that it takes."""
        return sum(table.nbytes for table in self._tables)

    def scan(self, question: Question, prefix: Prefix, rows: Rows, known: Nearest) -> Work:
        """As `scan.scan`, with the same answers; the prefix covers all rows, the groups the first ones."""
        work = Work(asked=len(question.queries) * len(rows))
        asking = unsettled(question, known, np.arange(len(question.queries)))
        if not len(asking):
            return work
        is_done = self._search(question, prefix, rows, known, asking, work)
        scan_by_prefix(question, prefix, rows, known, work, asking=asking[~is_done])
        if len(self) < len(rows):
            scan_by_prefix(question, prefix, rows, known, work, asking=asking[is_done], start=len(self))
        return work

    def _search(
        self,
        question: Question,
        prefix: Prefix,
        rows: Rows,
        known: Nearest,
        asking: NDArray[np.int64],
        work: Work,
    ) -> NDArray[np.bool_]:
        """Settle what the groups can settle; which of the queries `asking` they did."""
        are_all = len(asking) == len(question.queries)
        queries = tensor_of(
            question.queries if are_all else question.queries[asking]
        ).numpy()  # never read-only
        error = error_bound(rows.dimension)
        similarity, parts = known.similarity[asking], rows.addresses()
        basis = self._directions_of(prefix.basis), prefix.basis.length, prefix.basis.tail_slack
        settings = (question.floor, error, prefix.basis.margin, question.any_above)
        most = self._most(len(rows), rows.dimension, prefix.basis.length)
        greatest, is_done = np.empty(len(asking)), np.empty(len(asking), dtype=np.bool_)

        def search_part(first: int, last: int) -> _Found:
            room = _PAIRS + _PAIRS_A_QUERY * (last - first)
            which, position = np.empty(room, dtype=np.int64), np.empty(room, dtype=np.int64)
            products, counts = np.empty(room, dtype=np.float32), np.zeros(2, dtype=np.int64)
            count = search(
                *(queries, first, last, similarity, basis, settings, most, self._tables, parts),
                (which, position, products),
                (greatest, is_done, counts),
            )
            return _Found(which[:count], position[:count], int(counts[0]), int(counts[1]))

        for found in self._in_parts(len(asking), search_part):
            work.lanes += found.bounded
            work.followed += found.multiplied
            _decide(question, rows, known, asking[found.which], found.position)
        done = asking[is_done]
        if not question.any_above:
            known.product[done] = np.maximum(known.product[done], greatest[is_done])
        level = np.maximum(question.floor, np.maximum(known.similarity[done], known.product[done] - error))
        known.bound[done] = np.maximum(known.bound[done], level)
        return is_done

    def _most(self, rows: int, dimension: int, length: int) -> tuple[int, int]:
        """How many rows are bounded, and multiplied in full, for one query before it is left to the prefix scan.

        That one bounds all rows with one product, so more are not worth it here; and of a query that is given up no more
        should be lost than a part of the plain scan.
        """
        bounded = len(self) * prefix_cost(length) / lane_cost(length)
        multiplied = _LOST_SHARE * rows * product_cost(dimension) / followed_cost(dimension)
        return int(bounded), int(multiplied)

    def _directions_of(self, basis: PrefixBasis) -> NDArray[np.float64]:
        """The directions (k, d), padded with zeros to the length of the blocks."""
        if self._directions is None:
            self._directions = np.zeros((basis.dimension, self._length))
            self._directions[:, : basis.length] = basis.vectors
        return self._directions

    def _in_parts(self, queries: int, search_part: Callable[[int, int], _Found]) -> list[_Found]:
        """The parts of 0 … queries − 1, each on a thread of its own, the last one on this."""
        workers = torch.get_num_threads()
        parts = max(1, min(workers, queries // _LEAST_QUERIES_A_THREAD))
        bounds = np.linspace(0, queries, parts + 1).astype(int).tolist()
        *others, own = itertools.pairwise(bounds)
        if others and self._workers < workers:
            self._threads, self._workers = ThreadPoolExecutor(workers - 1), workers
        waiting = [self._threads.submit(search_part, *part) for part in others] if self._threads else []
        last = search_part(*own)
        return [*(each.result() for each in waiting), last]


def _decide(
    question: Question,
    rows: Rows,
    known: Nearest,
    which: NDArray[np.int64],
    position: NDArray[np.int64],
) -> None:
    """Decide in float64 among the pairs (p,), `which` ascending."""
    for start in range(0, len(which), _DECIDED_AT_ONCE):
        part = slice(start, start + _DECIDED_AT_ONCE)
        some, at = which[part], position[part]
        exact = similarities(question.queries, rows.take(at), (some, np.arange(len(at))))
        if question.any_above:
            above = exact >= question.floor
            known.settle(some[above], exact[above], at[above])
        else:
            known.confirm(some, exact, at)


def _ends(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """0, and where each of the parts of these sizes ends."""
    return np.append(0, np.cumsum(sizes)).astype(np.int64)


def _side_by_side(
    rows: NDArray[np.float32], block: NDArray[np.int64], lane: NDArray[np.int64], length: int
) -> NDArray[np.float32]:
    """Rows (n, d) as blocks (b, length, 16), row i at lane[i] of block[i]; zeros elsewhere."""
    blocks = np.zeros((int(block[-1]) + 1, length, LANES), dtype=np.float32)
    blocks[block, : rows.shape[1], lane] = rows
    return blocks
