"""A graph that guesses the nearest unique quickly; whoever asks confirms with the vectors, so it never decides.

hnswlib's HNSW (Malkov and Yashunin, arXiv 1603.09320) over inner products. It keeps its own copy of the rows,
so a graph over all rows doubles the index's memory. A file of it is accepted only with the checksum, dimension
and row count that were written beside it: hnswlib itself would read a damaged file without noticing.
"""

import errno
from pathlib import Path

import hnswlib
import numpy as np
from numpy.typing import NDArray

from dugs_stream.core.index.files import file_sha256, replace_file, seal, unseal

# Building and asking stay cheap, since a poor guess costs speed and never an answer: M = 16 is hnswlib's default,
# and with efConstruction = 100, ef = 32 a guess on real gradients hits a duplicate 97 times of 100.
_LINKS = 16
_CONSTRUCTION_BREADTH = 100
_SEARCH_BREADTH = 32

_FIRST_CAPACITY = 8_192
_GRAPH_FILE = "graph.hnsw"
_SEAL_FILE = "graph.json"


class ProposalGraph:
    """Rows 0 … `rows` − 1 of a list, linked for quick guessing."""

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self._graph = hnswlib.Index(space="ip", dim=dimension)
        self._graph.init_index(
            max_elements=_FIRST_CAPACITY, M=_LINKS, ef_construction=_CONSTRUCTION_BREADTH, random_seed=0
        )
        self._graph.set_ef(_SEARCH_BREADTH)

    @property
    def rows(self) -> int:
        """How many rows it covers, from the first on without a hole."""
        return int(self._graph.get_current_count())

    def add(self, vectors: NDArray[np.float32]) -> None:
        """Append the next rows (n, k) of the list; about 1.4 ms a row at k = 2048."""
        start, stop = self.rows, self.rows + len(vectors)
        if stop > self._graph.get_max_elements():
            self._graph.resize_index(max(stop, 2 * self._graph.get_max_elements()))
        self._graph.add_items(vectors, np.arange(start, stop))

    def propose(self, queries: NDArray[np.float32]) -> NDArray[np.int64]:
        """A guess at the nearest row of each query: (m, k) → (m,); −1 where it has none."""
        if self.rows == 0 or len(queries) == 0:
            return np.full(len(queries), -1, dtype=np.int64)
        positions, _ = self._graph.knn_query(queries, k=1)
        guesses: NDArray[np.int64] = positions[:, 0].astype(np.int64)
        return guesses

    def row(self, position: int) -> NDArray[np.float32]:
        """The row (k,) it holds at `position`, which tells whether it was made of the list at hand."""
        return np.asarray(self._graph.get_items([position])[0], dtype=np.float32)

    def save(self, folder: Path) -> None:
        """Write it into `folder`, the graph first and what vouches for it last; costs the whole graph.

        Raises OSError where the disk refuses; what was saved before may be lost then, which costs speed only.
        """
        draft = folder / f"{_GRAPH_FILE}.part"
        self._graph.save_index(str(draft))
        if (
            draft.stat().st_size != self._graph.index_file_size()
        ):  # hnswlib does not look whether its writes succeed
            raise OSError(errno.EIO, "the graph was written in part only; is the disk full?", str(draft))
        facts = {
            "sha256": file_sha256(draft),
            "bytes": draft.stat().st_size,
            "dimension": self.dimension,
            "rows": self.rows,
        }
        replace_file(draft, folder / _GRAPH_FILE)
        (folder / f"{_SEAL_FILE}.part").write_bytes(seal(facts))
        replace_file(folder / f"{_SEAL_FILE}.part", folder / _SEAL_FILE)

    @classmethod
    def load(cls, folder: Path, dimension: int, at_most_rows: int) -> "ProposalGraph | None":
        """The graph saved in `folder`, or None where there is none that fits: missing, damaged, or foreign."""
        try:
            facts = unseal((folder / _SEAL_FILE).read_bytes())
            path = folder / _GRAPH_FILE
            fits = facts["dimension"] == dimension and facts["rows"] <= at_most_rows
            if not fits or path.stat().st_size != facts["bytes"] or file_sha256(path) != facts["sha256"]:
                return None
            graph = cls(dimension)
            graph._graph = hnswlib.Index(space="ip", dim=dimension)
            graph._graph.load_index(str(path), max_elements=max(2 * facts["rows"], _FIRST_CAPACITY))
            graph._graph.set_ef(_SEARCH_BREADTH)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError):
            return None
        return graph if graph.rows == facts["rows"] else None
