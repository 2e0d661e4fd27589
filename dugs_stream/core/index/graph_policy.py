"""Policy of when an HNSW graph pays, counted in rows multiplied as the rest of the search is.

A confirmed guess at a row ≥ τ settles a duplicate without a scan, if any such row will do. So a graph gains what its
hits would have cost, and costs a guess for every query and the linking of every row. It is built once the gain that it
would have had reaches the price of linking the whole list, and dropped once what it gained is spent: at any time it has
cost at most about twice what was best. A list on which it never pays has none.
"""

# With 256 queries at k = 2 048 a guess takes as long as multiplying 7 000 rows.
_GUESS = 7_000
# Linking a row takes 1.4 ms there, and a row of a large product 31 ns.
_LINK = 45_000
# Share of the duplicates for which a guess is confirmed, on real gradients.
_HIT = 0.97


class GraphPolicy:
    """Credit of a graph, in rows multiplied for one query."""

    def __init__(self) -> None:
        self.wants_graph = False
        self._credit = 0.0
        self._scan_cost = 0.0

    def after_scan(self, queries: int, settled: int, cost: float, rows: int) -> None:
        """`queries` that no guess had settled were scanned for `cost` in all; `settled` of them are duplicates."""
        if not queries:
            return
        self._scan_cost = cost / queries
        if not self.wants_graph:
            self._credit = max(0.0, self._credit + _HIT * settled * self._scan_cost - _GUESS * queries)
            self.wants_graph = self._credit > _LINK * rows

    def after_guesses(self, queries: int, hits: int) -> None:
        """The graph was asked about `queries`, and `hits` of its guesses settled theirs."""
        self._credit += hits * self._scan_cost - _GUESS * queries
        self.wants_graph = self._credit >= 0

    def take_up(self, rows: int) -> None:
        """A graph of an earlier run is there, which paid then: it starts with the credit of a new one."""
        self.wants_graph, self._credit = True, float(_LINK * rows)
