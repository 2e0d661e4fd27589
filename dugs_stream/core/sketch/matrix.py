"""CountSketch of a formed matrix: its entries, laid out by samples, added up bucket by bucket.

With the samples as the last axis one index moves a row of m contiguous numbers, so that a gathered entry costs a tenth of
what it costs alone. Each sample's bucket is a sum of its own entries in the table's order.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dugs_stream.core.sketch.axis import AxisSketch, sorted_by_bucket
from dugs_stream.core.sketch.scratch import Scratch

ALIGNMENT = 16
"""Rows of our own matrix products are padded to a multiple of 16 numbers, 64 bytes in float32: for rows that start
at odd addresses MKL's bits depend on the place in the batch (18 of 120 random shapes; none when padded)."""

_PART_ENTRIES = 1 << 16
"""Entries of a sample formed at once: 8 MiB in float32 for a tile of 32, about what a core's cache holds."""


_LANES = 32
"""Samples whose entries are laid side by side at once: more rows at a time would not fit into a cache's ways."""


@dataclass(frozen=True, eq=False)
class _Part:
    """Some rows of the matrix, n entries, and their buckets.

    places   (n,) int32, entries in order of their buckets, counted from the part's first
    offsets  (k + 1,) int32, where each bucket begins
    signs    (n,) ±1, in the same order
    """

    rows: slice
    places: Tensor
    offsets: Tensor
    signs: Tensor


class MatrixSketch:
    """The map (i, j) → h₁(i) + h₂(j) mod k with sign s₁(i)·s₂(j) of matrices (rows, columns), as sums by bucket.

    width  columns with their padding, which no table names
    """

    def __init__(self, rows: AxisSketch, columns: AxisSketch, device: torch.device, scratch: Scratch) -> None:
        self._rows, self._columns, self._scratch = rows, columns, scratch
        self._dimension = dimension = rows.dimension
        self.width = columns.length + -columns.length % ALIGNMENT
        entries = max(
            _PART_ENTRIES, 4 * dimension
        )  # so that adding parts up costs little beside forming them
        step = max(ALIGNMENT, entries // max(self.width, 1) // ALIGNMENT * ALIGNMENT)
        self._parts = [
            self._part(slice(start, min(start + step, rows.length)), device)
            for start in range(0, rows.length, step)
        ]

    def of_products(self, g: Tensor, a: Tensor) -> Tensor:
        """Factors g (m, t, rows), a (m, t, columns) → the sketch of Σ_t g_t ⊗ a_t, (k, m)."""
        if g.shape[1] == 1:
            return self._of_single_products(g[:, 0], a[:, 0])
        left, right = _aligned(g).transpose(1, 2), _aligned(a)
        return self.of_parts(len(g), g, lambda rows, out: torch.bmm(left[:, rows], right, out=out))

    def of_formed(self, matrices: Tensor) -> Tensor:
        """Formed matrices (m, rows, columns) → their sketch (k, m)."""
        columns = self._columns.length
        return self.of_parts(
            len(matrices), matrices, lambda rows, out: out[:, :, :columns].copy_(matrices[:, rows])
        )

    def of_parts(self, m: int, like: Tensor, form: Callable[[slice, Tensor], object]) -> Tensor:
        """The sketch (k, m) of matrices that `form` writes for some rows at a time, (m, some rows, width)."""
        most = max((part.rows.stop - part.rows.start for part in self._parts), default=0) * self.width
        # Rows a power of two apart share their place in a cache, and to read across them takes 30 times as long.
        by_sample = self._scratch.take("by sample", like, m, most + ALIGNMENT)
        sums: list[Tensor] = []  # of each group of samples (k, at most `_LANES`)
        for part in self._parts:
            height = part.rows.stop - part.rows.start
            formed = by_sample[:, : height * self.width]
            form(part.rows, formed.view(m, height, self.width))
            for number, some in enumerate(torch.split(formed, _LANES)):
                entries = self._scratch.take("by entry", like, some.shape[1], len(some)).copy_(some.t())
                found = _bucket_sums(part, entries)
                if number == len(sums):
                    sums.append(found)
                else:
                    sums[number] += found
        return sums[0] if len(sums) == 1 else torch.cat(sums, dim=1)

    def _of_single_products(self, g: Tensor, a: Tensor) -> Tensor:
        left = g.t().contiguous()
        right = torch.nn.functional.pad(a, (0, self.width - a.shape[1])).t().contiguous()
        sums: Tensor | None = None
        for part in self._parts:
            some = left[part.rows, None]
            entries = self._scratch.take("by entry", g, len(some), *right.shape)
            found = _bucket_sums(part, torch.mul(some, right, out=entries).flatten(0, 1))
            sums = found if sums is None else sums.add_(found)
        return g.new_zeros(self._dimension, len(g)) if sums is None else sums

    def _part(self, rows: slice, device: torch.device) -> _Part:
        height, columns = rows.stop - rows.start, self._columns
        buckets = (self._rows.buckets[rows, None] + columns.buckets) % self._dimension
        order, offsets = sorted_by_bucket(buckets.ravel(), self._dimension)
        signs = (self._rows.signs[rows, None] * columns.signs).ravel()[order]
        places = (np.arange(height)[:, None] * self.width + np.arange(columns.length)).ravel()[order]
        return _Part(
            rows,
            torch.from_numpy(places.astype(np.int32)).to(device),
            torch.from_numpy(offsets.astype(np.int32)).to(device),
            torch.from_numpy(signs.astype(np.float32)).to(device),
        )


def _bucket_sums(part: _Part, entries: Tensor) -> Tensor:
    """Entries (n, m) → sums by bucket (k, m)."""
    return torch.nn.functional.embedding_bag(
        part.places,
        entries,
        part.offsets,
        mode="sum",
        include_last_offset=True,
        per_sample_weights=part.signs.to(entries.dtype),
    )


def _aligned(values: Tensor) -> Tensor:
    """Rows (m, t, d) padded with zeros to a multiple of `ALIGNMENT` numbers."""
    missing = -values.shape[2] % ALIGNMENT
    return torch.nn.functional.pad(values, (0, missing)) if missing else values
