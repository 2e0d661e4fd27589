"""CountSketch and TensorSketch of gradients: one seeded, balanced map into k numbers per parameter.

A vector-shaped parameter's entry i is added to bucket h(i) with sign s(i); a matrix-shaped one's entry (i, j) to bucket
h₁(i) + h₂(j) mod k with sign s₁(i)·s₂(j); a parameter of more axes counts as (first, rest). The map is linear, keeps
inner products in expectation over seeds, and depends on seed, the parameter's canonical name and its shape alone.

Two routes lead to the same vector of a Linear layer's gradient Σ_t g_t ⊗ a_t: `outer_spectrum` and `outer`. Both only
ever *gather* (no atomics), and every sum over more than one term is a tree of elementwise additions: the bits of a
sample depend neither on the device's scheduling nor on the other samples. The route follows from shapes alone.

Sources: Charikar, Chen & Farach-Colton 2002 (CountSketch); Pham & Pagh 2013 (TensorSketch).
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dugs_stream.core.sketch.hashing import hash_axis

_ALIGNMENT = 16
"""Rows of our own matrix products are padded to a multiple of 16 numbers, 64 bytes in float32: for rows that start
at odd addresses MKL's bits depend on the place in the batch (18 of 120 random shapes; none when padded)."""

_GATHER_ELEMENTS = 1 << 18
"""Gathered numbers held at once for each sample: 1 MiB in float32, 32 MiB for a tile of 32."""

_FACTOR_ELEMENTS = 1 << 22
"""Numbers of a tile's sketched factors, or of its summed gradients, held at once: 16 MiB in float32."""

# Nanoseconds a number on two CPU cores, float32; only their ratios matter, and only for the choice of route.
_GATHER_COST = 3.0
_FFT_COST = 0.06  # times log2 k
_SPECTRUM_COST = 1.0
_PRODUCT_COST = 0.02  # a multiply-add of a matrix product


class Sketch:
    """All maps of one seed and dimension, made once per parameter and kept on one device."""

    def __init__(self, seed: int, dimension: int, device: torch.device) -> None:
        self.seed = seed
        self.dimension = dimension
        self.device = device
        self._parameters: dict[tuple[str, tuple[int, ...]], ParameterSketch] = {}

    def parameter(self, name: str, shape: Sequence[int]) -> "ParameterSketch":
        """The map of the parameter with this canonical name and shape."""
        key = (name, tuple(shape))
        if key not in self._parameters:
            self._parameters[key] = ParameterSketch(self, *key)
        return self._parameters[key]


class ParameterSketch:
    """The map of one parameter. Rows are the first axis, columns all others together (none for a vector)."""

    def __init__(self, sketch: Sketch, name: str, shape: tuple[int, ...]) -> None:
        self.dimension = sketch.dimension
        self._device = sketch.device
        self.is_vector = len(shape) < 2  # noqa: PLR2004 -- two axes make a matrix
        self._rows = _Axis(sketch, name, 0, shape[0] if shape else 1)
        self._columns = self._rows if self.is_vector else _Axis(sketch, name, 1, math.prod(shape[1:]))
        self._matrix_table: Tensor | None = None

    def vector(self, values: Tensor) -> Tensor:
        """The sketch of a vector-shaped gradient, values (…, d) → (…, k)."""
        return self._rows.sketch(values)

    def dense(self, gradients: Tensor) -> Tensor:
        """The sketch of formed gradients (m, *shape) → (m, k)."""
        m = gradients.shape[0]
        if self.is_vector:
            return self.vector(gradients.reshape(m, -1))
        matrix = gradients.reshape(m, self._rows.length, self._columns.length)
        signed = matrix * self._rows.signs(matrix)[:, None] * self._columns.signs(matrix)  # (m, g, a)
        return self._bucket_sums(torch.nn.functional.pad(signed, (0, self._column_padding)))

    def outer(self, g: Tensor, a: Tensor) -> Tensor:
        """Summed route: output gradients (m, t, g), activations (m, t, a) → sketch of Σ_t g_t ⊗ a_t, (m, k).

        Forms the sum and adds up each bucket: O(t·g·a) a sample, bounded memory.
        """
        signed_g = torch.nn.functional.pad(g * self._rows.signs(g), (0, -g.shape[2] % _ALIGNMENT))
        signed_a = torch.nn.functional.pad(a * self._columns.signs(a), (0, self._column_padding))
        m, most = g.shape[0], max(1, _FACTOR_ELEMENTS // (signed_g.shape[2] * signed_a.shape[2]))
        step = next(d for d in range(min(m, most), 0, -1) if m % d == 0)  # all steps have the same size
        summed = (
            torch.bmm(left.transpose(1, 2), right)  # (step, g padded, a padded)
            for left, right in zip(torch.split(signed_g, step), torch.split(signed_a, step), strict=True)
        )
        return torch.cat([self._bucket_sums(matrices) for matrices in summed])

    def outer_spectrum(self, g: Tensor, a: Tensor) -> Tensor:
        """Spectral route: g (m, t, g), a (m, t, a) → half spectrum (m, 2, k//2 + 1) of the same vector.

        The sketch of g ⊗ a is the circular convolution of the sketches of g and a: O(t·k·log k) a sample.
        """
        m, t = g.shape[:2]
        step = max(1, _FACTOR_ELEMENTS // (m * self.dimension))
        total: Tensor | None = None
        for start in range(0, t, step):
            some = slice(start, start + step)
            left = torch.fft.rfft(self._rows.sketch(g[:, some]))  # (m, step, k//2 + 1)
            right = torch.fft.rfft(self._columns.sketch(a[:, some]))
            product = pairwise_sum(_complex_product(left, right), axis=1)  # (m, 2, k//2 + 1)
            total = product if total is None else total + product
        return g.new_zeros(m, 2, self.dimension // 2 + 1) if total is None else total

    def touched_rows(self, rows: Tensor, g: Tensor) -> Tensor:
        """Σ_t g_t added to row `rows`_t: (m, t) int64, (m, t, a) → the sketch of that matrix, (m, k)."""
        m, t = rows.shape
        k = self.dimension
        buckets = torch.from_numpy(self._rows.buckets).to(self._device)
        signs = self._rows.signs(g)
        step = max(1, _FACTOR_ELEMENTS // (m * k))
        total = g.new_zeros(m, k)
        for start in range(0, t, step):
            some = rows[:, start : start + step]
            columns = self._columns.sketch(g[:, start : start + step])  # (m, step, k)
            places = (torch.arange(k, device=self._device) - buckets[some][:, :, None]) % k
            moved = columns.gather(2, places) * signs[some][:, :, None]
            total = total + pairwise_sum(moved, axis=1)
        return total

    def prefers_spectrum(self, positions: int) -> bool:
        """Whether the spectral route is the quicker one for t = `positions`; from shapes alone."""
        k, rows, columns = self.dimension, self._rows.length, self._columns.length
        gathered = max(rows, k) + max(columns, k)
        spectral = positions * (
            gathered * _GATHER_COST + k * (2 * _FFT_COST * math.log2(max(k, 2)) + _SPECTRUM_COST)
        )
        size = rows * columns
        summed = positions * size * _PRODUCT_COST + max(size, k) * 1.5 * _GATHER_COST
        return spectral <= summed

    @property
    def _column_padding(self) -> int:
        # At least one: for a bucket with fewer entries the table points at a padded zero.
        return 1 + -(self._columns.length + 1) % _ALIGNMENT

    def _bucket_sums(self, signed: Tensor) -> Tensor:
        """Signed gradients (m, g or more, a padded) → (m, k)."""
        if self._matrix_table is None:
            width = self._columns.length + self._column_padding
            buckets = (self._rows.buckets[:, None] + self._columns.buckets[None, :]) % self.dimension
            places = np.arange(self._rows.length)[:, None] * width + np.arange(self._columns.length)
            table = _bucket_table(buckets.ravel(), places.ravel(), self._columns.length, self.dimension)
            self._matrix_table = _as_index(table, signed.shape[1] * width, self._device)
        return _gathered_sums(signed.flatten(1), self._matrix_table)


class _Axis:
    """Balanced CountSketch of one axis as a gather: (…, d) → (…, k)."""

    def __init__(self, sketch: Sketch, name: str, axis: int, length: int) -> None:
        hashed = hash_axis(sketch.seed, name, axis, length, sketch.dimension)
        self.length = length
        self.buckets = hashed.buckets
        table = _bucket_table(hashed.buckets, np.arange(length), length, sketch.dimension)
        self._table = _as_index(table, length + 1, sketch.device)  # (⌈d/k⌉, k)
        self._signs = torch.from_numpy(hashed.signs.astype(np.float64)).to(sketch.device)

    def signs(self, like: Tensor) -> Tensor:
        """±1 (d,) in the dtype of `like`."""
        if self._signs.dtype != like.dtype:
            self._signs = self._signs.to(like.dtype)
        return self._signs

    def sketch(self, values: Tensor) -> Tensor:
        padded = torch.nn.functional.pad(values * self.signs(values), (0, 1))
        return _gathered_sums(padded.reshape(-1, self.length + 1), self._table).view(
            *values.shape[:-1], self._table.shape[1]
        )


def pairwise_sum(values: Tensor, axis: int) -> Tensor:
    """Σ along an axis of at least one entry, by halving: elementwise additions only, so that no sum's bits depend on others.

    Rounding error O(ε·log length).
    """
    length = values.shape[axis]
    while length > 1:
        half = length // 2
        folded = values.narrow(axis, 0, half) + values.narrow(axis, half, half)
        if length % 2:
            folded = torch.cat([folded, values.narrow(axis, length - 1, 1)], dim=axis)
        values, length = folded, folded.shape[axis]
    return values.squeeze(axis)


def _gathered_sums(values: Tensor, table: Tensor) -> Tensor:
    """Values (m, places), table (w, k) of places → the sums (m, k) over w, in steps of bounded memory."""
    m, (depth, k) = values.shape[0], table.shape
    step = max(1, _GATHER_ELEMENTS // k)
    total: Tensor | None = None
    for start in range(0, depth, step):
        rows = table[start : start + step]
        gathered = values.index_select(1, rows.reshape(-1)).view(m, rows.shape[0], k)
        part = pairwise_sum(gathered, axis=1)
        total = part if total is None else total + part
    return values.new_zeros(m, k) if total is None else total


def _complex_product(left: Tensor, right: Tensor) -> Tensor:
    """(m, t, f) complex × (m, t, f) complex → (m, t, 2, f) real; each real product rounded on its own.

    A native complex product may fuse multiply and add in the vectorised part of a loop and not in its tail,
    which would make the bits depend on the place in the tile.
    """
    real = left.real * right.real - left.imag * right.imag
    imaginary = left.real * right.imag + left.imag * right.real
    return torch.stack([real, imaginary], dim=2)


def _bucket_table(
    buckets: NDArray[np.int64], places: NDArray[np.int64], empty: int, dimension: int
) -> NDArray[np.int64]:
    """(w, k) int64: in each column the places that fall into one bucket, filled up with the place `empty`."""
    counts = np.bincount(buckets, minlength=dimension)
    # 16-bit keys sort by radix: 0.1 s for 10^7 entries, a comparison sort takes 1 s.
    keys = buckets.astype(np.uint16) if dimension <= 1 << 16 else buckets
    order = np.argsort(keys, kind="stable")
    sorted_buckets = buckets[order]
    starts = np.cumsum(counts) - counts
    table = np.full((int(counts.max(initial=0)), dimension), empty, dtype=np.int64)
    table[np.arange(len(order)) - starts[sorted_buckets], sorted_buckets] = places[order]
    return table


def _as_index(table: NDArray[np.int64], places: int, device: torch.device) -> Tensor:
    """The table on the device, in 32 bits if they suffice: that of a matrix is as long as the parameter."""
    fits = places < 1 << 31
    return torch.from_numpy(table.astype(np.int32) if fits else table).to(device)
