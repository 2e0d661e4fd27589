"""Exact nearest-neighbour index by cosine: all uniques so far as float32 unit rows, and the search in them.

Similarity is the float64 dot product of the stored float32 rows in one fixed order (`core.index.similarity`); ties
go to the earliest. It is not clipped: two equal rows may come out as 1 ± 1e-7, as their norms do. How a question is
answered is chosen by what earlier answers have cost (`core.index.search`) and changes no verdict. Nothing here is safe to
call from two threads.
"""

from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from dugs_stream.core.index import files
from dugs_stream.core.index.files import Folder, StoredPrefix
from dugs_stream.core.index.graph_policy import GraphPolicy
from dugs_stream.core.index.hnsw import ProposalGraph
from dugs_stream.core.index.mapped import MappedRows
from dugs_stream.core.index.question import Mode, Nearest, Question, Work
from dugs_stream.core.index.report import IndexReport, Way
from dugs_stream.core.index.rows import SEGMENT_ROWS, Rows
from dugs_stream.core.index.similarity import require_unit_rows, similarities
from dugs_stream.errors import DamagedRowsError

if TYPE_CHECKING:
    import torch

    from dugs_stream.core.index.prefix import Prefix
    from dugs_stream.core.index.search import Search

# Linking a row takes about 1.4 ms at k = 2048. 32 of them delay a decision by no more than a commit takes; the others
# wait for the next call.
_LINKED_ROWS_PER_CALL = 32

# A plain scan of fewer rows takes about as long as the bookkeeping of a prefix.
_PREFIX_FROM_ROWS = 4_096

# What a device does with fewer rows takes little more than asking it.
_DEVICE_FROM_ROWS = 8_192

# More queries than this are searched in parts, so that a part's product stays small beside the list.
_QUERIES_AT_ONCE = 1_024

# A block of so many rows is compared with a vector at once: 4 MiB at k = 2 048, most of which is never read.
_ROWS_COMPARED_AT_ONCE = SEGMENT_ROWS


class UniqueIndex:
    """Exact nearest neighbour by cosine over unit rows; grows one batch at a time.

    Memory: 4·n·k bytes; 4·n·(d + 1) more while a certified prefix of d directions pays; and 4·k bytes, and some links, for
    every row that a graph covers.

    dimension       k, the length of every row
    graph_from      rows from which on an HNSW graph is kept beside the list; None: never; "paying": while it pays
    ask_graph_from  rows from which on it is asked
    prefix_from     rows from which on a certified prefix is tried; None: never
    uses_kernel     whether groups are searched by the native kernel where numba is installed: the same answers, sooner
    device          on which rows lie in low precision too and are searched, as far as its memory reaches; None: the host
    device_from     rows from which on it is used
    """

    def __init__(
        self,
        dimension: int,
        *,
        graph_from: int | Literal["paying"] | None = "paying",
        ask_graph_from: int = 0,
        prefix_from: int | None = _PREFIX_FROM_ROWS,
        uses_kernel: bool = True,
        device: "str | torch.device | None" = None,
        device_from: int = _DEVICE_FROM_ROWS,
    ) -> None:
        if dimension < 1:
            raise ValueError(f"dimension is {dimension}, expected 1 or more")
        self._rows = Rows(dimension)
        self._graph_from = graph_from
        self._ask_graph_from = ask_graph_from
        self._graph: ProposalGraph | None = None
        self._policy = GraphPolicy()
        self._prefix_from = prefix_from
        self._uses_kernel = uses_kernel
        self._device, self._device_from = device, device_from
        self._made_search: Search | None = None

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
        for start, rows in self._rows.blocks(_ROWS_COMPARED_AT_ONCE):
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
        self, queries: NDArray[np.float32], threshold: float | None = None, mode: Mode | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """The nearest row of each query: (m, k) float32 unit rows → similarity (m,) float64, position (m,) int64.

        mode  nearest (the default without a threshold): the exact maximum, the earliest among equals
              bound (the default with a threshold τ): the same for a query whose maximum is ≥ τ; for the others the
              position −1, and an upper bound of the maximum that is itself below τ
              decision: a row of similarity ≥ τ, with that similarity, if there is one: the earliest, unless a graph has
              proposed another; for the others as with bound. The fastest on long lists

        Which queries reach τ is the same in all modes. An empty index answers −inf and −1. O(m·n·k) time at worst; memory
        bounded for any n and any number of equal rows. Raises ValueError for queries that are not unit rows, a threshold
        that is missing or not finite, or an unknown mode.
        """
        queries = require_unit_rows(queries, self.dimension, "queries")
        if threshold is not None and not np.isfinite(threshold):
            raise ValueError(f"threshold is {threshold}, expected a finite number")
        mode = mode or ("nearest" if threshold is None else "bound")
        if mode not in ("nearest", "bound", "decision"):
            raise ValueError(f"mode is {mode!r}, expected 'nearest', 'bound' or 'decision'")
        if mode != "nearest" and threshold is None:
            raise ValueError(f"mode {mode!r} needs a threshold; give threshold=τ, or ask for mode='nearest'")
        floor = -np.inf if mode == "nearest" or threshold is None else threshold
        if 0 < len(queries) <= _QUERIES_AT_ONCE:
            found = self._nearest(Question(queries, floor, any_above=mode == "decision"))
            return found.similarity, found.position
        similarity = np.empty(len(queries), dtype=np.float64)
        position = np.empty(len(queries), dtype=np.int64)
        for start in range(0, len(queries), _QUERIES_AT_ONCE):
            part = slice(start, start + _QUERIES_AT_ONCE)
            found = self._nearest(Question(queries[part], floor, any_above=mode == "decision"))
            similarity[part], position[part] = found.similarity, found.position
        return similarity, position

    def _nearest(self, question: Question) -> Nearest:
        known = Nearest.of_nothing(len(question.queries))
        if self._should_ask_graph(question):
            self._confirm_guesses(question, known)
        open_before = int((known.position < 0).sum())
        cost = self._search().answer(question, known)
        if question.any_above:
            settled = open_before - int((known.position < 0).sum())
            self._policy.after_scan(open_before, settled, cost, len(self))
        if question.floor > -np.inf:
            below = known.similarity < question.floor
            known.similarity[below] = np.minimum(known.bound[below], np.nextafter(question.floor, -np.inf))
            known.position[below] = -1
        return known

    def _search(self) -> "Search":
        if self._made_search is None or self._made_search.rows is not self._rows:
            # It takes torch, which loads for seconds: too long for those who only save, load or count.
            from dugs_stream.core.index.device_search import DeviceSearch  # noqa: PLC0415
            from dugs_stream.core.index.search import Search  # noqa: PLC0415

            on_device = None
            if self._device is not None:
                on_device = DeviceSearch(self._rows, self._device, self._device_from)
            self._made_search = Search(
                self._rows, self._prefix_from, on_device, uses_kernel=self._uses_kernel
            )
        return self._made_search

    def give_way(self, reason: str) -> bool:
        """Take less of a device's memory, as others need it; False if nothing is there to give back. No answer depends on it."""
        search = self._made_search
        return search is not None and search.device is not None and search.device.give_way(reason)

    def _should_ask_graph(self, question: Question) -> bool:
        """A graph that is kept while it pays is asked only where a hit spares the scan."""
        if self._graph is None or len(self) < self._ask_graph_from:
            return False
        return question.any_above or self._graph_from != "paying"

    def _confirm_guesses(self, question: Question, known: Nearest) -> None:
        """Ask the graph, drop guesses that are not rows of ours, and compute the others exactly."""
        assert self._graph is not None  # noqa: S101 - asked for by _should_ask_graph
        guesses = self._graph.propose(question.queries)
        which = np.flatnonzero((guesses >= 0) & (guesses < len(self)))
        rows = self._rows.take(guesses[which])
        exact = similarities(question.queries, rows, (which, np.arange(len(which))))
        if not question.any_above:
            known.confirm(which, exact, guesses[which])
            return
        above = exact >= question.floor
        known.settle(which[above], exact[above], guesses[which][above])
        self._policy.after_guesses(len(guesses), int(above.sum()))

    @property
    def prefix(self) -> "Prefix | None":
        """The certified prefix in use, None without one. It may lag behind the list until the next question."""
        return None if self._made_search is None else self._made_search.prefix

    def take_prefix(self, prefix: "Prefix") -> bool:
        """Go on with a prefix of an earlier run, whose rows the caller knows to be those of this list.

        False, and nothing changed, if it does not fit: another dimension, more rows, another last row.
        """
        return self._search().take_prefix(prefix)

    def restore_prefix(self, stored: StoredPrefix | None) -> bool:
        """Go on with a prefix that was stored with these rows; False, and nothing changed, if it does not fit."""
        if stored is None:
            return False
        from dugs_stream.core.index.prefix import Prefix  # noqa: PLC0415 -- torch, as in `_search`

        try:
            return self.take_prefix(Prefix.restored(*stored))
        except (ValueError, DamagedRowsError):
            return False

    def report(self) -> IndexReport:
        """What it holds and how it answers now."""
        prefix, search = self.prefix, self._made_search
        device = None if search is None else search.device
        way: Way = "ground" if prefix is None else "prefix"
        if device is not None and device.is_answering:
            way = "device"
        recent = Work() if search is None else search.recent
        queries = max(1.0, 0.0 if search is None else search.recent_queries)
        graph_rows = 0 if self._graph is None else self._graph.rows
        return IndexReport(
            rows=len(self),
            dimension=self.dimension,
            strategies={"nearest": way, "bound": way, "decision": way},
            prefix_dimensions=0 if prefix is None else prefix.basis.length,
            energy=None if prefix is None else prefix.energy(),
            queries=0 if search is None else search.queries,
            rows_touched=(recent.full + recent.chosen + recent.followed) / queries,
            survivors=(recent.chosen + recent.followed) / queries,
            graph_rows=graph_rows,
            bytes={
                "rows": 4 * len(self) * self.dimension,
                "prefix": 0 if search is None else search.prefix_bytes,
                "graph": 0 if self._graph is None else self._graph.bytes,
                "device": 0 if device is None else device.bytes,
            },
            device=None if self._device is None else str(self._device),
            device_format=None if device is None else device.format,
            device_left=None if device is None else device.refusal,
        )

    def _link_pending_rows(self) -> None:
        if not self._keeps_graph():
            self._graph = None
            return
        if self._graph is None:
            self._graph = ProposalGraph(self.dimension)
        start = self._graph.rows
        stop = min(len(self), start + _LINKED_ROWS_PER_CALL)
        if start < stop:
            self._graph.add(self.rows(start, stop))

    def _keeps_graph(self) -> bool:
        if self._graph_from == "paying":
            return self._policy.wants_graph
        return self._graph_from is not None and len(self) >= self._graph_from

    def save(self, folder: Folder) -> None:
        """Write everything into `folder`, made if it is missing; a kill leaves what was saved before, or this.

        Costs all rows. Raises OSError if the disk refuses.
        """
        prefix = self.prefix
        files.save_rows(folder, self._rows, None if prefix is None else prefix.stored)
        self.save_graph(folder)

    @classmethod
    def load(cls, folder: Folder, **keywords: Any) -> Self:
        """The index saved in `folder`; keywords as for the constructor.

        Maps the rows and reads next to none of them. Raises StateError that names the missing or damaged file; rows that are
        not what was saved raise DamagedRowsError where they are first used. A missing, damaged or foreign prefix or graph is
        not an error: it is built again.
        """
        rows = files.load_rows(folder)
        index = cls(rows.dimension, **keywords)
        index._rows = rows
        index.restore_prefix(files.load_prefix(folder))
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
        self._policy.take_up(graph.rows)
        return True

    def _is_made_of_these_rows(self, graph: ProposalGraph) -> bool:
        """Whether the last row it covers is ours: a foreign graph would do no harm, but guess badly for ever."""
        last = graph.rows - 1
        return last >= 0 and np.array_equal(graph.row(last), self.rows(last, last + 1)[0])
