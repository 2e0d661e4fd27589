"""The search itself: which way to go, by what earlier searches have cost.

On a device, if the index was given one and it can (`core.index.device_search`). On the host:
Up to a few thousand rows the plain scan. Beyond, a certified prefix with groups of its rows once a sample of the list and of the traffic
says that it pays; when what searches really cost says otherwise, the plain scan again, until the list or the traffic has changed.
The choice depends on what was added and asked, not on a clock, and changes no verdict.
"""

from typing import TYPE_CHECKING

import numpy as np

from dugs_stream.core.index.basis_fit import Sample, fitted_basis, second_basis
from dugs_stream.core.index.costs import (
    followed_cost,
    grouped_cost,
    lane_cost,
    pair_cost,
    prefix_cost,
    product_cost,
    sparse_cost,
)
from dugs_stream.core.index.device_search import DeviceSearch
from dugs_stream.core.index.group_scan import scan_by_groups
from dugs_stream.core.index.groups import Grouping, Groups
from dugs_stream.core.index.prefix import Prefix
from dugs_stream.core.index.prefix_scan import scan_by_prefix
from dugs_stream.core.index.products import is_autocasting, without_autocast
from dugs_stream.core.index.question import Nearest, Question, Work
from dugs_stream.core.index.rows import Rows
from dugs_stream.core.index.scan import scan
from dugs_stream.core.index.second_bound import SecondBound
from dugs_stream.core.index.short import is_short, search_few
from dugs_stream.errors import DamagedRowsError

if TYPE_CHECKING:
    from dugs_stream.core.index.group_blocks import GroupBlocks

# Enough to tell a share of one row in a thousand; at k = 2 048 they take 2 and 16 MiB.
_SAMPLED_QUERIES, _SAMPLED_ROWS = 256, 2_048
_SAMPLED_RUN = 64
# Fewer queries say too little about the traffic.
_LEAST_QUERIES = 32
# What the latest 4 096 queries have cost decides whether a prefix stays; before that it is on trial.
_REMEMBERED_QUERIES = 4_096
# Rows that came after the last grouping are scanned one by one; grouping costs about as much as 130 plain questions.
_MOST_GROWTH = 1.125
# After a prefix did not pay, or none was found, the next attempt waits for the list to grow by half, or for so many queries.
_QUERIES_TO_NEXT_FIT = 65_536


class Search:
    """Answers questions about one list of rows by the cheaper of two ways, and remembers what it has cost."""

    def __init__(
        self,
        rows: Rows,
        prefix_from: int | None,
        device: DeviceSearch | None = None,
        *,
        uses_kernel: bool = True,
    ) -> None:
        self.rows = rows
        self.device = device
        self.prefix: Prefix | None = None
        self.groups: Groups | GroupBlocks | None = None
        self.second: SecondBound | None = None
        self._grouping: Grouping | None = None
        self.queries = 0
        self._ungrouped_cost = 0.0
        self.recent = Work()
        self.recent_queries = 0.0
        self._prefix_from = prefix_from
        self._uses_kernel = uses_kernel
        self._next_fit_rows = prefix_from
        self._next_fit_queries = 0
        self._sampled = np.empty((0, rows.dimension), dtype=np.float32)
        self._levels = np.empty(0)
        self._samples = 0

    def answer(self, question: Question, known: Nearest) -> float:
        """Find the nearest row of each query; what is found goes into `known`.

        Returns the cost, in rows multiplied in full for one query.
        """
        if is_autocasting():
            with without_autocast():
                work = self._answer(question, known)
        else:
            work = self._answer(question, known)
        cost = self._cost(work) / product_cost(self.rows.dimension)
        self._remember(question, known, work)
        return cost

    def _answer(self, question: Question, known: Nearest) -> Work:
        work = None if self.device is None else self.device.answer(question, known)
        return self._answer_on_host(question, known) if work is None else work

    def _answer_on_host(self, question: Question, known: Nearest) -> Work:
        self._fit_if_due()
        queries = len(question.queries)
        if self.prefix is None and is_short(self.rows, queries) and known.is_of_nothing:
            search_few(question, self.rows, known)
            return Work(asked=queries * len(self.rows), full=queries * len(self.rows))
        if self.prefix is None:
            return scan(question, self.rows, known)
        return self._scan_prefix_or_all(question, self.prefix, known)

    def _scan_prefix_or_all(self, question: Question, prefix: Prefix, known: Nearest) -> Work:
        """By the prefix; by a plain scan if its rows are not what was written to disk, and a new one is made later."""
        try:
            prefix.follow(self.rows)
            return self._scan_prefix(question, prefix, known)
        except DamagedRowsError:  # or of the list itself: then the scan raises it again
            self._use(None)
            self._next_fit_rows = len(self.rows)
            return scan(question, self.rows, known)

    def _scan_prefix(self, question: Question, prefix: Prefix, known: Nearest) -> Work:
        is_grouped = self.groups is not None and len(self.groups) * _MOST_GROWTH >= len(self.rows)
        if not is_grouped and self._ungrouped_cost >= self._price_of_groups(prefix):
            self._group(prefix)
            is_grouped = True
        if self.groups is None:
            work = Work(asked=len(question.queries) * len(self.rows))
            scan_by_prefix(question, prefix, self.rows, known, work)
        elif isinstance(self.groups, Groups):
            work = scan_by_groups(question, self.groups, prefix, self.rows, known, self.second)
        else:
            work = self.groups.scan(question, prefix, self.rows, known)
        if not is_grouped:
            self._ungrouped_cost += self._cost(work)
        return work

    def _group(self, prefix: Prefix) -> None:
        """Group all rows: for the native kernel if there is one, else with a second bound.

        A list that grew keeps its directions until the prefix changes, at twice its length at the latest.
        """
        groups, self._ungrouped_cost = Groups.of(prefix, self._grouping), 0.0
        self._grouping = groups.grouping
        self.groups = (_blocks_of(groups) if self._uses_kernel else None) or groups
        if self.groups is groups and self.second is None:
            basis = second_basis(self._sample_of_rows(), prefix.basis.length)
            self.second = None if basis is None else SecondBound(basis, self.rows)

    def _price_of_groups(self, prefix: Prefix) -> float:
        """What grouping costs: at a million rows seconds, for which the first answer after a restart must not wait.

        So rows are grouped once the questions without have cost as much: in all, at most twice what was best.
        """
        rows = len(prefix.rows)
        new = rows if self._grouping is None else rows - len(self._grouping.group)
        return new * Groups.count_for(rows) * prefix_cost(prefix.basis.length) + rows * grouped_cost()

    @property
    def prefix_bytes(self) -> int:
        """Memory of the prefix rows, of their groups, and of the longer rows of the second bound."""
        rows = 0 if self.prefix is None else 4 * len(self.prefix.rows) * self.prefix.rows.dimension
        groups = (
            0 if self.groups is None or self._grouping is None else self.groups.bytes + self._grouping.bytes
        )
        return rows + groups + (0 if self.second is None else self.second.bytes)

    def take_prefix(self, prefix: Prefix) -> bool:
        """Go on with the prefix of an earlier run; False if it is of other rows, as far as the last one tells."""
        covered = len(prefix.rows)
        if self._prefix_from is None or not 0 < covered <= len(self.rows):
            return False
        if prefix.basis.dimension != self.rows.dimension or not self._covers_ours(prefix):
            return False
        self._use(prefix)
        return True

    def _covers_ours(self, prefix: Prefix) -> bool:
        last = np.array([len(prefix.rows) - 1])
        computed = prefix.basis.prefix_rows(self.rows.take(last))
        # Another processor may sum the coordinates in another order.
        return bool(np.allclose(prefix.rows.take(last), computed, rtol=0, atol=1e-6))

    def _use(self, prefix: Prefix | None) -> None:
        self.prefix, self.groups, self.second, self._ungrouped_cost = prefix, None, None, 0.0
        self._grouping = None
        self.recent, self.recent_queries = Work(), 0.0
        self._next_fit_rows = max(len(self.rows) * 2 if prefix else len(self.rows) * 3 // 2, 1)
        self._next_fit_queries = self.queries + _QUERIES_TO_NEXT_FIT

    def _fit_if_due(self) -> None:
        if self._next_fit_rows is None or self._prefix_from is None or len(self.rows) < self._prefix_from:
            return
        is_due = len(self.rows) >= self._next_fit_rows
        is_due |= self.prefix is None and self.queries >= self._next_fit_queries > 0
        if not is_due or self._samples < _LEAST_QUERIES:
            return
        basis = fitted_basis(self._sample_of_rows())
        self._use(None if basis is None else Prefix(basis))

    def _sample_of_rows(self) -> Sample:
        """In runs all over the list: of mapped rows only few blocks are then read."""
        runs = max(1, _SAMPLED_ROWS // _SAMPLED_RUN)
        starts = np.linspace(0, max(0, len(self.rows) - _SAMPLED_RUN), runs).astype(np.int64)
        positions = np.unique(starts[:, None] + np.arange(_SAMPLED_RUN))
        rows = self.rows.take(positions[positions < len(self.rows)])
        return Sample(rows, self._sampled[: self._samples], self._levels[: self._samples])

    def _remember(self, question: Question, known: Nearest, work: Work) -> None:
        asked = len(question.queries)
        self.queries += asked
        fade = max(0.0, 1 - asked / _REMEMBERED_QUERIES)
        self.recent.fade(fade)
        self.recent.add(work)
        self.recent_queries = fade * self.recent_queries + asked
        self._sample(question, known)
        if self.prefix is not None and self.recent_queries > _REMEMBERED_QUERIES / 2 and self._loses():
            self._use(None)

    def _loses(self) -> bool:
        """Whether the latest searches have cost more than the plain scan would have."""
        return self._cost(self.recent) > self.recent.asked * product_cost(self.rows.dimension)

    def _cost(self, work: Work) -> float:
        dimension = self.rows.dimension
        cost = work.full * product_cost(dimension) + work.chosen * pair_cost(dimension)
        if self.prefix is not None:
            length = self.prefix.basis.length
            cost += work.bounded * prefix_cost(length) + work.sparse * sparse_cost(length)
            cost += work.followed * followed_cost(dimension) + work.lanes * lane_cost(length)
        return cost

    def _sample(self, question: Question, known: Nearest) -> None:
        """Keep the latest queries, with what a row had to reach: the floor or, beyond it, the nearest."""
        if self._prefix_from is None or 2 * len(self.rows) < self._prefix_from:
            return
        if not len(self._levels):
            self._sampled = np.empty((_SAMPLED_QUERIES, self.rows.dimension), dtype=np.float32)
            self._levels = np.empty(_SAMPLED_QUERIES)
        latest = slice(-_SAMPLED_QUERIES, None)
        reached = question.floor if question.any_above else np.maximum(question.floor, known.similarity)
        queries, levels = question.queries[latest], np.broadcast_to(reached, len(question.queries))[latest]
        places = (self._samples + np.arange(len(queries))) % _SAMPLED_QUERIES
        self._sampled[places], self._levels[places] = queries, levels
        self._samples += len(queries)


def _blocks_of(groups: Groups) -> "GroupBlocks | None":
    """The groups as the native kernel takes them; None without numba."""
    try:
        # It compiles for seconds where nothing is kept of an earlier time: only lists that have groups wait for that.
        from dugs_stream.core.index.group_blocks import GroupBlocks  # noqa: PLC0415
    except ImportError:
        return None
    return GroupBlocks(groups)
