"""Exact nearest-neighbour index by cosine: all uniques so far as float32 unit rows, and the search in them.

Similarity is the float64 dot product of the stored float32 rows in one fixed order (`core.index.similarity`); ties
go to the earliest. It is not clipped: two equal rows may come out as 1 ± 1e-7, as their norms do. From a few
thousand rows on an HNSW graph is kept beside the rows; a search starts from its guess, confirmed by the vectors.
No answer depends on it. Nothing here is safe to call from two threads.
"""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dugs_stream.core.index import files
from dugs_stream.core.index.files import Folder
from dugs_stream.core.index.hnsw import ProposalGraph
from dugs_stream.core.index.mapped import MappedRows
from dugs_stream.core.index.rows import Rows
from dugs_stream.core.index.scan import Nearest, block_rows_for, scan
from dugs_stream.core.index.similarity import error_bound, require_unit_rows, similarities

# A graph of a million rows takes most of an hour to build, so it grows beside the list from early on …
_GRAPH_FROM_ROWS = 4_096
# … and is asked only when the scan costs clearly more than its guess: with 256 queries at k = 2048 a guess costs
# about as much as multiplying 7 000 rows.
_ASK_GRAPH_FROM_ROWS = 65_536
# Linking a row takes about 1.4 ms at k = 2048. 32 of them delay a decision by no more than a commit takes; the others
# wait for the next call.
_LINKED_ROWS_PER_CALL = 32

# More queries than this are searched in parts, so that a part's product stays small beside the list.
_QUERIES_AT_ONCE = 1_024


class UniqueIndex:
    """Exact nearest neighbour by cosine over unit rows; grows one batch at a time.

    Memory: 4·n·k bytes, and as much again for the rows that the graph covers.

    dimension       k, the length of every row
    graph_from      rows from which on a graph is kept; None: never
    ask_graph_from  rows from which on it is asked
    """

    def __init__(
        self,
        dimension: int,
        *,
        graph_from: int | None = _GRAPH_FROM_ROWS,
        ask_graph_from: int = _ASK_GRAPH_FROM_ROWS,
    ) -> None:
        if dimension < 1:
            raise ValueError(f"dimension is {dimension}, expected 1 or more")
        self._rows = Rows(dimension)
        self._graph_from = graph_from
        self._ask_graph_from = ask_graph_from
        self._graph: ProposalGraph | None = None

    @property
    def dimension(self) -> int:
        """k, the length of every row."""
        return self._rows.dimension

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def vectors(self) -> NDArray[np.float32]:
        """(n, k) float32 in sequence order, read-only; beyond 65 536 rows a copy. See also `rows`."""
        return self._rows.all()

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """Rows start … stop − 1, (stop − start, k) float32, as a copy of just those."""
        return self._rows.take(np.arange(max(0, start), min(stop, len(self)), dtype=np.int64))

    def position_of(self, vector: NDArray[np.float32]) -> int:
        """The first row that equals `vector` (k,), −1 if there is none; O(n) time."""
        for start, rows in self._rows.blocks(block_rows_for(1)):
            alike = np.flatnonzero(rows[:, 0] == vector[0])
            equal = alike[(rows[alike] == vector).all(axis=1)]
            if equal.size:
                return start + int(equal[0])
        return -1

    def add(self, vectors: NDArray[np.float32]) -> None:
        """Append (n, k) float32 unit rows; for any others ValueError, and nothing is added.

        n = 0 is allowed and lets the graph catch up.
        """
        self._rows.add(require_unit_rows(vectors, self.dimension, "vectors"))
        self._link_pending_rows()

    def take_mapped(self, rows: MappedRows) -> None:
        """Append the rows of a file without reading them; they were unit rows when they were written.

        From then on everything that reads them may raise DamagedRowsError, before an answer is given from damaged rows. The file
        must not be shortened while it is mapped: the system ends a process that reads beyond a file's end.
        """
        self._rows.map(rows)

    def verify_ahead(self, most_bytes: int) -> int:
        """Verify mapped rows that nothing has used yet, about so many bytes; 0 when there are none left."""
        return self._rows.verify_ahead(most_bytes)

    def nearest(
        self, queries: NDArray[np.float32], threshold: float | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """The nearest row of each query: (m, k) float32 unit rows → similarity (m,) float64, position (m,) int64.

        Exact, the earliest among equals. With a threshold τ: exact if the maximum is ≥ τ; otherwise the
        position is −1 and the similarity an upper bound of the maximum, itself below τ. An empty index
        answers −inf and −1. O(m·n·k) time; memory bounded for any n and any number of equal rows. Raises
        ValueError for queries that are not unit rows, or a threshold that is not finite.
        """
        queries = require_unit_rows(queries, self.dimension, "queries")
        if threshold is not None and not np.isfinite(threshold):
            raise ValueError(f"threshold is {threshold}, expected a finite number")
        similarity = np.empty(len(queries), dtype=np.float64)
        position = np.empty(len(queries), dtype=np.int64)
        for start in range(0, len(queries), _QUERIES_AT_ONCE):
            part = slice(start, start + _QUERIES_AT_ONCE)
            found = self._nearest(queries[part], -np.inf if threshold is None else threshold)
            similarity[part], position[part] = found.similarity, found.position
        return similarity, position

    def _nearest(self, queries: NDArray[np.float32], floor: float) -> Nearest:
        known = Nearest.of_nothing(len(queries))
        self._confirm_guesses(queries, known)
        scan(queries, self._rows.blocks(block_rows_for(len(queries))), known, floor)
        below = known.similarity < floor
        bound = known.product + error_bound(self.dimension)
        known.similarity[below] = np.minimum(bound, np.nextafter(floor, -np.inf))[below]
        known.position[below] = -1
        return known

    def _confirm_guesses(self, queries: NDArray[np.float32], known: Nearest) -> None:
        """Ask the graph, drop guesses that are not rows of ours, and compute the others exactly."""
        if self._graph is None or len(self) < self._ask_graph_from:
            return
        guesses = self._graph.propose(queries)
        which = np.flatnonzero((guesses >= 0) & (guesses < len(self)))
        rows = self._rows.take(guesses[which])
        exact = similarities(queries, rows, (which, np.arange(len(which))))
        known.confirm(which, exact, guesses[which])

    def _link_pending_rows(self) -> None:
        if self._graph_from is None or len(self) < self._graph_from:
            return
        if self._graph is None:
            self._graph = ProposalGraph(self.dimension)
        start = self._graph.rows
        stop = min(len(self), start + _LINKED_ROWS_PER_CALL)
        if start < stop:
            self._graph.add(self.rows(start, stop))

    def save(self, folder: Folder) -> None:
        """Write everything into `folder`, made if it is missing; a kill leaves what was saved before, or this.

        Costs all rows. Raises OSError if the disk refuses.
        """
        files.save_rows(folder, self._rows)
        self.save_graph(folder)

    @classmethod
    def load(cls, folder: Folder, **keywords: Any) -> Self:
        """The index saved in `folder`; keywords as for the constructor.

        Raises StateError that names the missing or damaged file. A missing, damaged or foreign graph is not an
        error: it is built again, a little with each `add`.
        """
        rows = files.load_rows(folder)
        index = cls(rows.dimension, **keywords)
        index._rows = rows
        index.load_graph(folder)
        return index

    def save_graph(self, folder: Folder) -> None:
        """Write the graph, if there is one, into `folder`; it costs the whole graph, so do it rarely."""
        if self._graph is not None:
            files.save_graph(folder, self._graph)

    def load_graph(self, folder: Folder) -> bool:
        """Take up the graph saved in `folder`; False, and nothing changed, if none there fits these rows.

        Rows it does not cover yet are linked by the next calls of `add`.
        """
        if self._graph_from is None:
            return False
        graph = files.load_graph(folder, self.dimension, at_most_rows=len(self))
        if graph is None or not self._is_made_of_these_rows(graph):
            return False
        self._graph = graph
        return True

    def _is_made_of_these_rows(self, graph: ProposalGraph) -> bool:
        """Whether the last row it covers is ours: a foreign graph would do no harm, but guess badly for ever."""
        last = graph.rows - 1
        return last >= 0 and np.array_equal(graph.row(last), self.rows(last, last + 1)[0])
