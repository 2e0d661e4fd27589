"""Approximate nearest neighbour by an HNSW graph: a quick guess, which the index confirms with the vectors.

hnswlib's HNSW (Malkov and Yashunin, arXiv 1603.09320) over inner products. It keeps its own copy of the rows,
so a graph over all rows doubles the index's memory. No decision depends on it.
"""

import hnswlib
import numpy as np
from numpy.typing import NDArray

# Building and asking stay cheap, since a poor guess costs speed and never an answer: M = 16 is hnswlib's default,
# and with efConstruction = 100, ef = 32 a guess on real gradients hits a duplicate 97 times out of 100.
_LINKS = 16
_CONSTRUCTION_BREADTH = 100
_SEARCH_BREADTH = 32

_FIRST_CAPACITY = 8_192


class ProposalGraph:
    """Rows 0 … `rows` − 1 of a list, linked for quick guessing.

    native  hnswlib's own graph, as read from a file; a new, empty one by default
    """

    def __init__(self, dimension: int, native: hnswlib.Index | None = None) -> None:
        self.dimension = dimension
        self.native = hnswlib.Index(space="ip", dim=dimension) if native is None else native
        if native is None:
            self.native.init_index(_FIRST_CAPACITY, _LINKS, _CONSTRUCTION_BREADTH, random_seed=0)
        self.native.set_ef(_SEARCH_BREADTH)

    @property
    def rows(self) -> int:
        """Number of rows it covers: the first ones of the list, without a gap."""
        return int(self.native.get_current_count())

    @property
    def bytes(self) -> int:
        """Memory it takes, about: room for its own copy of the rows, and for the links of each."""
        return int(self.native.get_max_elements()) * (4 * self.dimension + 8 * _LINKS + 16)

    def add(self, vectors: NDArray[np.float32]) -> None:
        """Append the next rows (n, k) float32 of the list; about 1.4 ms a row at k = 2048."""
        start, stop = self.rows, self.rows + len(vectors)
        if stop > self.native.get_max_elements():
            self.native.resize_index(max(stop, 2 * self.native.get_max_elements()))
        self.native.add_items(vectors, np.arange(start, stop))

    def propose(self, queries: NDArray[np.float32]) -> NDArray[np.int64]:
        """A guess at the nearest row of each query: (m, k) float32 → (m,) int64; −1 for an empty graph."""
        if self.rows == 0 or len(queries) == 0:
            return np.full(len(queries), -1, dtype=np.int64)
        positions, _ = self.native.knn_query(queries, k=1)
        guesses: NDArray[np.int64] = positions[:, 0].astype(np.int64)
        return guesses

    def row(self, position: int) -> NDArray[np.float32]:
        """The row (k,) float32 it holds at `position`: it tells whether the graph was made of the list at hand."""
        return np.asarray(self.native.get_items([position])[0], dtype=np.float32)
