"""Which unique is nearest to a query, exactly? All uniques so far, as float32 unit rows, and the search in them.

Similarity is the float64 dot product of the stored float32 rows in one fixed order (`core.similarity`); ties go
to the earliest. It is not clipped: two equal rows may come out as 1 ± 1e-7, as their norms do. From a few
thousand rows on an HNSW graph is kept beside the rows; its guess, confirmed by the vectors, is where a search
starts. No answer depends on it. Nothing here is safe to call from two threads.
"""

from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dugs_stream.core.index.files import (
    ROW_DTYPE,
    file_sha256,
    map_rows,
    replace_file,
    seal,
    sync_folder,
    unseal,
    write_file,
)
from dugs_stream.core.index.hnsw import ProposalGraph
from dugs_stream.core.index.rows import SEGMENT_ROWS, Rows
from dugs_stream.core.index.scan import Nearest, block_rows_for, scan
from dugs_stream.core.index.similarity import error_bound, require_unit_rows, similarities
from dugs_stream.errors import StateError

# A graph of a million rows takes most of an hour to build, so it grows beside the list from early on …
_GRAPH_FROM_ROWS = 4_096
# … and is asked once the scan costs clearly more than its guess: with 256 queries at k = 2048 a guess costs about
# as much as multiplying 7 000 rows.
_ASK_GRAPH_FROM_ROWS = 65_536
# Linking a row takes about 1.4 ms at k = 2048. 32 of them a call hold no decision up for longer than a commit takes;
# what is left over waits for the next call.
_LINKED_ROWS_PER_CALL = 32

# More queries than this are searched in parts, so that a part's product stays small beside the list.
_QUERIES_AT_ONCE = 1_024

_MANIFEST = "index.json"
_FORMAT = 1


class UniqueIndex:
    """Exact nearest neighbour by cosine over unit rows; grows one batch at a time.

    Memory: 4·n·k bytes, and as much again for the rows that the graph covers.
    graph_from: rows from which on a graph is kept (None: never). ask_graph_from: rows from which on it is asked.
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

    @property
    def allocated_bytes(self) -> int:
        """Memory held by the rows and, about, by the graph's copy of them."""
        linked = 0 if self._graph is None else self._graph.rows
        return self._rows.allocated_bytes + linked * self.dimension * ROW_DTYPE.itemsize

    def add(self, vectors: NDArray[np.float32]) -> None:
        """Append (n, k) float32 unit rows; ValueError, and nothing added, where they are not that.

        n = 0 is allowed and lets the graph catch up.
        """
        self._rows.add(require_unit_rows(vectors, self.dimension, "vectors"))
        self._link_pending_rows()

    def nearest(
        self, queries: NDArray[np.float32], threshold: float | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """The nearest row of each query: (m, k) float32 unit rows → similarity (m,) float64, position (m,) int64.

        Exact, the earliest among equals. With a threshold τ: exact where the maximum is ≥ τ; below it the
        position is −1 and the similarity an upper bound of the maximum, itself below τ. An empty index
        answers −inf and −1. O(m·n·k) time; memory bounded whatever n and however many rows are alike.
        """
        queries = require_unit_rows(queries, self.dimension, "queries")
        if threshold is not None and not np.isfinite(threshold):
            raise ValueError(f"threshold is {threshold}, expected a finite number")
        parts = [
            self._nearest(queries[start : start + _QUERIES_AT_ONCE], threshold)
            for start in range(0, len(queries), _QUERIES_AT_ONCE)
        ]
        if not parts:
            return np.empty(0, dtype=np.float64), np.empty(0, dtype=np.int64)
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])

    def _nearest(
        self, queries: NDArray[np.float32], threshold: float | None
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        known = Nearest.of_nothing(len(queries))
        self._confirm_guesses(queries, known)
        blocks = self._rows.blocks(block_rows_for(len(queries)))
        if threshold is None:
            scan(queries, blocks, known)
            return known.similarity, known.position
        scan(queries, blocks, known, floor=threshold)
        below = known.similarity < threshold
        bound = known.product + error_bound(self.dimension)
        known.similarity[below] = np.minimum(bound, np.nextafter(threshold, -np.inf))[below]
        known.position[below] = -1
        return known.similarity, known.position

    def _confirm_guesses(self, queries: NDArray[np.float32], known: Nearest) -> None:
        """Ask the graph, drop what is no row of ours, and compute the rest exactly."""
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

    def save_graph(self, folder: str | Path) -> None:
        """Write the graph, where there is one, into `folder`; it costs the whole graph, so do it rarely."""
        if self._graph is not None:
            self._graph.save(Path(folder))

    def load_graph(self, folder: str | Path) -> bool:
        """Take up the graph saved in `folder`; False, and nothing changed, where none there fits these rows.

        Rows it does not cover yet are linked by the next calls of `add`.
        """
        if self._graph_from is None:
            return False
        graph = ProposalGraph.load(Path(folder), self.dimension, at_most_rows=len(self))
        if graph is None or not self._is_made_of_these_rows(graph):
            return False
        self._graph = graph
        return True

    def _is_made_of_these_rows(self, graph: ProposalGraph) -> bool:
        """Whether the last row it covers is ours: a foreign graph would do no harm, but guess badly for ever."""
        last = graph.rows - 1
        return last >= 0 and np.array_equal(graph.row(last), self.rows(last, last + 1)[0])

    def save(self, folder: str | Path) -> None:
        """Write everything into `folder`, made where it is missing; a kill leaves what was saved before, or this.

        Costs all rows. Raises OSError where the disk refuses.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        segments = [
            self._save_segment(folder, start, rows) for start, rows in self._rows.blocks(SEGMENT_ROWS)
        ]
        self.save_graph(folder)
        facts = {"format": _FORMAT, "dimension": self.dimension, "rows": len(self), "segments": segments}
        write_file(folder / _MANIFEST, seal(facts))
        named = {segment["file"] for segment in segments}
        for stale in folder.glob("vectors-*.f32"):
            if stale.name not in named:
                stale.unlink()
        sync_folder(folder)

    @staticmethod
    def _save_segment(folder: Path, start: int, rows: NDArray[np.float32]) -> dict[str, Any]:
        """One file of rows, named by number and content: the files of an earlier save stay until the end."""
        number = start // SEGMENT_ROWS
        draft = folder / f"vectors-{number:05d}.part"
        rows.astype(ROW_DTYPE, copy=False).tofile(draft)
        digest = file_sha256(draft)
        name = f"vectors-{number:05d}-{digest[:16]}.f32"
        replace_file(draft, folder / name)
        return {"file": name, "rows": len(rows), "sha256": digest}

    @classmethod
    def load(cls, folder: str | Path, **keywords: Any) -> Self:
        """The index saved in `folder`; keywords as for the constructor.

        Raises StateError that names the file which is missing or damaged. A missing, damaged or foreign
        graph is no error: it is linked anew, a little with each `add`.
        """
        folder = Path(folder)
        facts = _read_manifest(folder / _MANIFEST)
        index = cls(facts["dimension"], **keywords)
        for segment in facts["segments"]:
            index._rows.add(_read_segment(folder / segment["file"], segment, index.dimension))
        index.load_graph(folder)
        return index


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        facts = unseal(path.read_bytes())
    except FileNotFoundError as error:
        raise StateError(
            f"{path} does not exist; expected the folder of an index written by save()"
        ) from error
    except ValueError as error:
        raise StateError(
            f"{path} is damaged ({error}); restore it from a copy, or save the index again"
        ) from error
    if facts.get("format") != _FORMAT:
        raise StateError(
            f"{path} has the format {facts.get('format')!r}, expected {_FORMAT}; it was written by another "
            "version of dugs-stream: load it with that one"
        )
    return facts


def _read_segment(path: Path, segment: dict[str, Any], dimension: int) -> NDArray[np.float32]:
    expected = segment["rows"] * dimension * ROW_DTYPE.itemsize
    try:
        found = path.stat().st_size
        intact = found == expected and file_sha256(path) == segment["sha256"]
    except FileNotFoundError as error:
        raise StateError(f"{path} is missing; restore it from a copy, or save the index again") from error
    if not intact:
        raise StateError(
            f"{path} is damaged: {found} bytes whose SHA-256 is not the one in {_MANIFEST} (expected {expected} "
            "bytes); restore it from a copy, or save the index again"
        )
    return map_rows(path, segment["rows"], dimension)
