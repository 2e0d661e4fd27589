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
from dugs_stream.core.sketch.spectrum import summed_products

_FACTOR_ELEMENTS = 1 << 21
"""Numbers of a tile's sketched factors held at once: 8 MiB in float32."""


class Sketch:
    """All maps of one seed and dimension, made once per parameter and kept on one device."""

    def __init__(self, seed: int, dimension: int, device: torch.device, costs: Costs | None = None) -> None:
        self.seed = seed
        self.dimension = dimension
        self.device = device
        self.costs = costs or default_costs(device)
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
        self.is_vector = len(shape) < 2  # noqa: PLR2004 -- two axes make a matrix

        def axis(number: int, length: int) -> AxisSketch:
            return AxisSketch(sketch.seed, name, number, length, sketch.dimension, sketch.device)

        self._rows = axis(0, shape[0] if shape else 1)
        self._columns = self._rows if self.is_vector else axis(1, math.prod(shape[1:]))

    @cached_property
    def _matrix(self) -> MatrixSketch:
        """Tables as long as the parameter, so made only for the routes that need them."""
        return MatrixSketch(self._rows, self._columns, self.dimension, self._device)

    @cached_property
    def _transposed(self) -> MatrixSketch:
        """The same map of matrices (columns, rows)."""
        return MatrixSketch(self._columns, self._rows, self.dimension, self._device)

    def vector(self, values: Tensor) -> Tensor:
        """The sketch of a vector-shaped gradient, values (…, d) → (…, k)."""
        return self._rows.sketch(values)

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
        step = max(1, _FACTOR_ELEMENTS // (m * self.dimension))
        total: Tensor | None = None
        for start in range(0, t, step):
            some = slice(start, start + step)
            left = torch.fft.rfft(self._rows.sketch(g[:, some]))  # (m, step, k//2 + 1)
            right = torch.fft.rfft(self._columns.sketch(a[:, some]))
            product = summed_products(left, right)
            total = product if total is None else total + product
        return torch.fft.rfft(g.new_zeros(m, self.dimension)) if total is None else total

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
        m, t = rows.shape
        k = self.dimension
        buckets = torch.from_numpy(self._rows.buckets).to(self._device)
        signs = self._rows.signs_like(g)
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
        """Whether the spectral route is the cheaper one for t = `positions`; from shapes and costs alone."""
        rows, columns = self._rows.length, self._columns.length
        spectral = self._costs.spectral(positions, rows, columns, self.dimension)
        return spectral <= self._costs.summed(positions, rows, columns)

    def _as_matrices(self, gradients: Tensor) -> Tensor:
        return gradients.reshape(gradients.shape[0], self._rows.length, self._columns.length)
