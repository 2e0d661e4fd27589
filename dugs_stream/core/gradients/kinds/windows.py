"""Gradient of a weight that slides over an image: Σ over positions of one factor ⊗ the patch of the other beneath it.

Convolutions and transposed ones of any number of axes, with stride, dilation and groups. Cost of a sample with t
positions, rows r and patches of c numbers: O(t·k·log k + t·c) by the spectral route, O(t·r·c) by the summed one.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dugs_stream.core.sketch.count_sketch import ParameterSketch
from dugs_stream.core.sketch.scaling import ScaledSum

_ALIGNMENT = 16
"""Positions of our own matrix products are padded to 64 bytes of float32, so that bits do not depend on the place."""

_PATCH_NUMBERS = 1 << 22
"""Numbers of a tile's patches held at once, 16 MiB in float32."""


@dataclass(frozen=True)
class Window:
    """How a weight slides: its size, the step between positions, the step between taps, and how many positions.

    Each has an entry for every axis of the image.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    positions: tuple[int, ...]

    @property
    def extent(self) -> tuple[int, ...]:
        """The size of the image that all positions together read."""
        return tuple(
            (t - 1) * step + (k - 1) * apart + 1
            for t, step, k, apart in zip(self.positions, self.stride, self.kernel, self.dilation, strict=True)
        )

    def patches(self, image: Tensor) -> Tensor:
        """A view (m, c, *kernel, *positions) of an image (m, c, *size), as large as `extent` or larger."""
        inner = image.stride()[2:]
        taps = [step * apart for step, apart in zip(inner, self.dilation, strict=True)]
        moves = [step * stride for step, stride in zip(inner, self.stride, strict=True)]
        return image.as_strided(
            (*image.shape[:2], *self.kernel, *self.positions),
            (*image.stride()[:2], *taps, *moves),
            image.storage_offset(),
        )


def add_sliding(
    total: ScaledSum,
    parameter: ParameterSketch,
    rows: Tensor,
    image: Tensor,
    window: Window,
    groups: int,
    exponents: Tensor,
) -> None:
    """Add to `total` the sketches (m, k) × 2^exponents (m,) of Σ_t rows_t ⊗ patch_t.

    rows (m, r, *positions), image (m, c, *size); row group i of `groups` meets channel group i alone.
    """
    t = math.prod(window.positions)
    if groups > 1 or not parameter.prefers_spectrum(t):
        parameter.add_dense(total, sliding_product(rows, image, window, groups), exponents)
    elif rows.device.type == "cpu":
        spectra = [
            parameter.outer_spectrum_of_one(one.flatten(1), window.patches(under).reshape(-1, t))
            for one, under in zip(rows, torch.split(image, 1), strict=True)
        ]
        total.add_spectra(torch.stack(spectra), exponents)
    else:
        # One sample's work is too little to keep a GPU busy.
        patches = window.patches(image).reshape(len(image), -1, t)
        total.add_spectra(parameter.outer_spectrum(rows.flatten(2).mT, patches.mT), exponents)


def sliding_product(rows: Tensor, image: Tensor, window: Window, groups: int) -> Tensor:
    """Σ_t rows_t ⊗ patch_t: rows (m, r, *positions), image (m, c, *size) → (m, r, c/groups, *kernel)."""
    m, r = rows.shape[:2]
    taps = image.shape[1] * math.prod(window.kernel)
    across = math.prod(window.positions[1:])
    height = min(window.positions[0], max(1, _PATCH_NUMBERS // (taps * across)))
    step = _divisor(m, max(1, _PATCH_NUMBERS // (taps * _aligned(height * across))))
    product = rows.new_empty(m, r, taps // groups)
    for first in range(0, m, step):
        found = product[first : first + step].view(step * groups, r // groups, -1)
        for start in range(0, window.positions[0], height):
            part = replace(
                window, positions=(min(height, window.positions[0] - start), *window.positions[1:])
            )
            left = rows[first : first + step, :, start : start + height]
            right = image[first : first + step, :, start * window.stride[0] :]
            torch.baddbmm(
                found,
                _positions_last(left, left.shape[2:]).view(step * groups, r // groups, -1),
                _positions_last(part.patches(right), part.positions).view(*found.shape[::2], -1).mT,
                beta=int(start > 0),  # what is there before the first part counts for nothing
                out=found,
            )
    return product.view(m, r, image.shape[1] // groups, *window.kernel)


def _positions_last(values: Tensor, positions: tuple[int, ...]) -> Tensor:
    """(m, …, *positions) → (m, numbers at a position, t with its padding of zeros)."""
    m, t = values.shape[0], math.prod(positions)
    kept = values.shape[1 : values.dim() - len(positions)]
    if not -t % _ALIGNMENT:
        return values.reshape(m, -1, t)
    aligned = values.new_empty(m, math.prod(kept), _aligned(t))
    aligned[..., t:] = 0
    aligned[..., :t].unflatten(2, positions).unflatten(1, kept).copy_(values)  # type: ignore[no-untyped-call]
    return aligned


def _aligned(length: int) -> int:
    return length + -length % _ALIGNMENT


def _divisor(number: int, most: int) -> int:
    """The largest divisor that is at most `most`: all steps have the same size."""
    return next(d for d in range(min(number, most), 0, -1) if number % d == 0)
