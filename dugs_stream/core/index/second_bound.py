"""Second bound: longer prefix rows, of only those rows that the first bound has left.

A row computed in full comes from memory: 2 KiB at k = 512. A prefix row of 127 directions is a quarter of that and leaves one in
seven of what 47 directions leave on gradients of digits. Each is computed when it is first needed, so nothing is read ahead.
The bound is that of `core.index.prefix`.
"""

import numpy as np
from numpy.typing import NDArray

from dugs_stream.core.index.prefix import PrefixBasis
from dugs_stream.core.index.products import pair_products, tensor_of
from dugs_stream.core.index.rows import Rows

# Fewer pairs are multiplied in full before the queries' own longer rows are computed.
_LEAST_PAIRS = 1_000
# A bound that leaves more than this share costs as much as it spares. It is judged by so many pairs at least.
_MOST_LEFT, _JUDGED_BY = 0.6, 100_000


class SecondBound:
    """Prefix rows by a longer basis. Memory: 4·(d + 1) bytes for each row that was ever needed, in pages of the system."""

    def __init__(self, basis: PrefixBasis, rows: Rows) -> None:
        self.basis = basis
        self._rows = rows
        self._short = np.zeros((0, basis.length + 1), dtype=np.float32)
        self._is_known = np.zeros(0, dtype=bool)
        self._asked = self._left = 0

    @property
    def bytes(self) -> int:
        """Memory of the rows that it holds."""
        return int(np.count_nonzero(self._is_known)) * 4 * (self.basis.length + 1)

    def pays_for(self, pairs: int) -> bool:
        """Whether it is worth asking about so many pairs."""
        is_on_trial = self._asked < _JUDGED_BY
        return pairs >= _LEAST_PAIRS and (is_on_trial or self._left <= _MOST_LEFT * self._asked)

    def reaching(
        self,
        queries: NDArray[np.float32],
        least: NDArray[np.float32],
        which: NDArray[np.int64],
        position: NDArray[np.int64],
    ) -> NDArray[np.int64]:
        """Which pairs (p,) of a query and a row have a bound ≥ the least (m,) of the query; `which` ascending."""
        self._know(position)
        asked = tensor_of(self.basis.prefix_rows(queries))
        bounds = pair_products(asked, tensor_of(self._short), which, position)
        left = np.flatnonzero(bounds >= least[which])
        self._asked += len(which)
        self._left += len(left)
        return left

    def _know(self, position: NDArray[np.int64]) -> None:
        if len(self._is_known) < len(self._rows):
            self._grow(max(len(self._rows), len(self._is_known) * 5 // 4))
        unknown = position[~self._is_known[position]]
        if len(unknown):
            unknown = np.unique(unknown)
            self._short[unknown] = self.basis.prefix_rows(self._rows.take(unknown))
            self._is_known[unknown] = True

    def _grow(self, rows: int) -> None:
        short = np.zeros((rows, self.basis.length + 1), dtype=np.float32)
        known = np.flatnonzero(self._is_known)
        short[known] = self._short[known]
        self._short, self._is_known = short, np.zeros(rows, dtype=bool)
        self._is_known[known] = True
