"""CountSketch and TensorSketch of gradients: one seeded, balanced map into k numbers per parameter.

A vector-shaped parameter's entry i is added to bucket h(i) with sign s(i); a matrix-shaped one's entry (i, j) to bucket
h₁(i) + h₂(j) mod k with sign s₁(i)·s₂(j); a parameter of more axes counts as (first, rest). The map is linear, keeps
inner products in expectation over seeds, and depends on seed, the parameter's canonical name and its shape alone.

Several routes lead to the same vector of a gradient Σ_t g_t ⊗ a_t: `outer_spectrum` multiplies spectra of both sides'
sketches, `outer` forms the sum and adds up its buckets. Each sum has an order of its own that is the same at every place
in a tile, and nothing is added by atomics: the bits of a sample depend neither on the device's scheduling nor on the
other samples. The route follows from shapes and the device's costs alone.

Sources: Charikar, Chen & Farach-Colton 2002 (CountSketch); Pham & Pagh 2013 (TensorSketch).
"""

import math
from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor

from dugs_stream.core.sketch.axis import AxisSketch, pairwise_sum
from dugs_stream.core.sketch.costs import Costs, default_costs
from dugs_stream.core.sketch.matrix import MatrixSketch
from dugs_stream.core.sketch.scaling import ScaledSum
from dugs_stream.core.sketch.scratch import Scratch
from dugs_stream.core.sketch.spectrum import summed_products

_SLAB_NUMBERS = 1 << 18
"""Numbers of a tile's sketched factors held at once by each thread: 1 MiB in float32, so that each step finds them in the cache."""

_DEVICE_SLAB_NUMBERS = 1 << 24
"""The same on a GPU, whose kernels want more work: 64 MiB."""


class Sketch:
    """All maps of one seed and dimension, made once per parameter and kept on one device."""

    def __init__(self, seed: int, dimension: int, device: torch.device, costs: Costs | None = None) -> None:
        self.seed = seed
        self.dimension = dimension
        self.device = device
        self.costs = costs or default_costs(device)
        self.scratch = Scratch()
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
        self._costs = sketch.costs
        self._scratch = sketch.scratch
        self.is_vector = len(shape) < 2  # noqa: PLR2004 -- two axes make a matrix

        def axis(number: int, length: int) -> AxisSketch:
            return AxisSketch(sketch.seed, name, number, length, sketch.dimension, sketch.device)

        self._rows = axis(0, shape[0] if shape else 1)
        self._columns = self._rows if self.is_vector else axis(1, math.prod(shape[1:]))

    @cached_property
    def _matrix(self) -> MatrixSketch:
        """Tables as long as the parameter, so made only for the routes that need them."""
        return MatrixSketch(self._rows, self._columns, self._device, self._scratch)

    @cached_property
    def _transposed(self) -> MatrixSketch:
        """The same map of matrices (columns, rows)."""
        return MatrixSketch(self._columns, self._rows, self._device, self._scratch)

    def vector(self, values: Tensor) -> Tensor:
        """The sketch of a vector-shaped gradient, values (…, d) → (…, k)."""
        return self._rows.sketch(values)

    def add_vector(self, total: ScaledSum, values: Tensor, exponents: Tensor) -> None:
        """Add the sketch of a vector-shaped gradient, values (m, d) × 2^exponents (m,), to `total`."""
        if self._rows.is_sparse:
            total.add_few(*self._rows.signed(values), exponents)
        else:
            total.add(self.vector(values), exponents)

    def dense(self, gradients: Tensor) -> Tensor:
        """The sketch of formed gradients (m, *shape) → (m, k)."""
        m = gradients.shape[0]
        if self.is_vector:
            return self.vector(gradients.reshape(m, -1))
        return self._matrix.of_formed(self._as_matrices(gradients)).t().contiguous()

    def add_dense(self, total: ScaledSum, gradients: Tensor, exponents: Tensor) -> None:
        """Add the sketch of formed gradients (m, *shape) × 2^exponents (m,) to `total`."""
        if self.is_vector:
            total.add(self.dense(gradients), exponents)
        else:
            total.add_columns(self._matrix.of_formed(self._as_matrices(gradients)), exponents)

    def add_outer(self, total: ScaledSum, g: Tensor, a: Tensor, exponents: Tensor) -> None:
        """Add the sketch of Σ_t g_t ⊗ a_t × 2^exponents (m,) to `total`, by the cheaper route.

        g (m, t, rows), a (m, t, columns): two sides of a matrix-shaped parameter's gradient at t positions.
        """
        if self.prefers_spectrum(g.shape[1]):
            total.add_spectra(self.outer_spectrum(g, a), exponents)
        else:
            total.add_columns(self._matrix.of_products(g, a), exponents)

    def add_transposed(
        self, total: ScaledSum, like: Tensor, exponents: Tensor, form: Callable[[slice, Tensor], object]
    ) -> None:
        """Add the sketch of gradients × 2^exponents (m,) that `form` writes for some columns at a time.

        It is given a slice of the columns, and room (m, those columns, rows with their padding), which may hold anything
        where the padding is. like: a tensor of the same dtype and device.
        """
        total.add_columns(self._transposed.of_parts(len(exponents), like, form), exponents)

    def outer(self, g: Tensor, a: Tensor) -> Tensor:
        """Summed route: output gradients (m, t, g), activations (m, t, a) → sketch of Σ_t g_t ⊗ a_t, (m, k).

        Forms the sum and adds up each bucket: O(t·g·a) a sample, bounded memory.
        """
        return self._matrix.of_products(g, a).t().contiguous()

    def outer_spectrum(self, g: Tensor, a: Tensor) -> Tensor:
        """Spectral route: g (m, t, g), a (m, t, a) → half spectrum (m, k//2 + 1), complex, of the same vector.

        The sketch of g ⊗ a is the circular convolution of the sketches of g and a: O(t·k·log k) a sample.
        """
        m, t = g.shape[:2]
        samples, positions = self._slab(m, t)
        slabs = zip(torch.split(g, samples), torch.split(a, samples), strict=True)
        spectra = [self._spectrum_of(*slab, positions) for slab in slabs]
        return torch.cat(spectra) if len(spectra) > 1 else spectra[0]

    def _spectrum_of(self, g: Tensor, a: Tensor, step: int) -> Tensor:
        """The half spectra of some samples, `step` positions at once."""
        total: Tensor | None = None
        for left, right in zip(torch.split(g, step, dim=1), torch.split(a, step, dim=1), strict=True):
            spectra = self._spectra(self._rows, left), self._spectra(self._columns, right)
            product = summed_products(*spectra, self._scratch)
            total = product if total is None else total.add_(product)
        assert total is not None  # noqa: S101 -- a tensor of no positions is split into one of none
        return total

    def _spectra(self, axis: AxisSketch, values: Tensor) -> Tensor:
        """The half spectra of each position's sketch, (…, d) → (…, k//2 + 1)."""
        on_cpu = values.device.type == "cpu"
        found: Tensor = torch.fft.rfft(
            axis.sketch_in(self._scratch, values) if on_cpu else axis.sketch(values)
        )
        return found

    def _slab(self, m: int, t: int) -> tuple[int, int]:
        """How many samples and positions are sketched at once; of samples a divisor of m."""
        is_cpu = self._device.type == "cpu"
        numbers = _SLAB_NUMBERS if is_cpu else _DEVICE_SLAB_NUMBERS
        positions = min(t, max(1, numbers // self.dimension))
        # Each thread has a cache of its own. Of positions always as many: their groups choose the order of additions.
        shared = numbers * (torch.get_num_threads() if is_cpu else 1)
        most = max(1, shared // max(1, positions * self.dimension))
        return next(d for d in range(min(m, most), 0, -1) if m % d == 0), positions

    def outer_spectrum_of_one(self, g: Tensor, a: Tensor) -> Tensor:
        """The same of one sample with the positions last: g (rows, t), a (columns, t) → (k//2 + 1), complex.

        A sample by itself has the same bits in any company, and its factors stay in the cache of a core.
        """
        left = torch.fft.rfft(self._rows.sketch_first(g), dim=0)  # (k//2 + 1, t)
        right = torch.fft.rfft(self._columns.sketch_first(a), dim=0)
        product: Tensor = left * right
        return product.sum(dim=1)

    def touched_rows(self, rows: Tensor, g: Tensor) -> Tensor:
        """Σ_t g_t added to row `rows`_t: (m, t) int64, (m, t, a) → the sketch of that matrix, (m, k)."""
        if g.device.type != "cpu":
            return self._rolled_rows(rows, g)
        m, k = rows.shape[0], self.dimension
        total = g.new_zeros(m, k)
        row_buckets, row_signs = self._row_map
        column_buckets, column_signs = self._column_map
        # Each sample's numbers are added one after the other, in their own order.
        buckets = ((row_buckets[rows][:, :, None] + column_buckets) % k).flatten(1)
        signed = g * row_signs[rows][:, :, None].to(g.dtype) * column_signs.to(g.dtype)
        return total.scatter_add_(1, buckets, signed.flatten(1))

    def _rolled_rows(self, rows: Tensor, g: Tensor) -> Tensor:
        """The same without atomics: each position's sketched columns, moved by its row's bucket."""
        m, t = rows.shape
        k = self.dimension
        row_buckets, row_signs = self._row_map
        total = g.new_zeros(m, k)
        step = max(1, _DEVICE_SLAB_NUMBERS // (m * k))
        for some in _slices(t, step):
            columns = self._columns.sketch(g[:, some])  # (m, step, k)
            places = (torch.arange(k, device=self._device) - row_buckets[rows[:, some]][:, :, None]) % k
            moved = columns.gather(2, places) * row_signs[rows[:, some]][:, :, None].to(g.dtype)
            total += pairwise_sum(moved, axis=1)
        return total

    @cached_property
    def _row_map(self) -> tuple[Tensor, Tensor]:
        return self._on_device(self._rows)

    @cached_property
    def _column_map(self) -> tuple[Tensor, Tensor]:
        return self._on_device(self._columns)

    def _on_device(self, axis: AxisSketch) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(axis.buckets).to(self._device), torch.from_numpy(axis.signs).to(self._device)

    def prefers_spectrum(self, positions: int) -> bool:
        """Whether the spectral route is the cheaper one for t = `positions`; from shapes and costs alone."""
        rows, columns = self._rows.length, self._columns.length
        spectral = self._costs.spectral(positions, rows, columns, self.dimension)
        return spectral <= self._costs.summed(positions, rows, columns)

    def _as_matrices(self, gradients: Tensor) -> Tensor:
        return gradients.reshape(gradients.shape[0], self._rows.length, self._columns.length)


def _slices(length: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]
