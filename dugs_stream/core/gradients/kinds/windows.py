"""Gradient of a weight that slides over an image: Σ over positions of one factor ⊗ the patch of the other beneath it.

Convolutions and transposed ones of any number of axes, with stride, dilation and groups. Cost of a sample with t
positions, rows r and patches of c numbers: O(t·k·log k + t·c) by the spectral route, O(t·r·c) by the summed one.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dugs_stream.core.sketch.count_sketch import ParameterSketch
from dugs_stream.core.sketch.matrix import ALIGNMENT
from dugs_stream.core.sketch.scaling import ScaledSum

_PATCH_NUMBERS = 1 << 20
"""Numbers of patches held at once, 4 MiB in float32: about what a core's cache holds."""


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
    if groups > 1:
        parameter.add_dense(total, sliding_product(rows, image, window, groups), exponents)
    elif not parameter.prefers_spectrum(t):
        parameter.add_transposed(
            total,
            rows,
            exponents,
            lambda taps, out: _write(out[..., : rows.shape[1]], rows, image, window, taps),
        )
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
    m, r, c = *rows.shape[:2], image.shape[1] // groups
    taps = c * math.prod(window.kernel)
    product = rows.new_empty(m * groups, taps, r // groups)
    rows, image = (each.reshape(m * groups, -1, *each.shape[2:]) for each in (rows, image))
    _write(product, rows, image, window, slice(0, taps))
    return product.mT.reshape(m, r, c, *window.kernel)


def _write(out: Tensor, rows: Tensor, image: Tensor, window: Window, taps: slice) -> None:
    """Write Σ_t patch_t ⊗ rows_t of some numbers of a patch into `out` (m, taps, r).

    rows (m, r, *positions), image (m, c, *size), of which the numbers in `taps` of (c, *kernel) are meant.
    """
    one = math.prod(window.kernel)
    channels = slice(taps.start // one, -(-taps.stop // one))
    wanted = slice(taps.start - channels.start * one, taps.stop - channels.start * one)
    image = image[:, channels]
    numbers, across = image.shape[1] * one, math.prod(window.positions[1:])
    height = min(window.positions[0], max(1, _PATCH_NUMBERS // (numbers * across)))
    step = _divisor(len(rows), max(1, _PATCH_NUMBERS // (numbers * height * across)))
    for first in range(0, len(rows), step):
        some = slice(first, first + step)
        for start in range(0, window.positions[0], height):
            part = replace(
                window, positions=(min(height, window.positions[0] - start), *window.positions[1:])
            )
            right = rows[some, :, start : start + height]
            left = part.patches(image[some, :, start * window.stride[0] :])
            torch.baddbmm(
                out[some],
                _positions_last(left, part.positions)[:, wanted],
                _positions_last(right, part.positions).mT,
                beta=int(start > 0),  # what is there before the first part counts for nothing
                out=out[some],
            )


def _positions_last(values: Tensor, positions: tuple[int, ...]) -> Tensor:
    """(m, …, *positions) → (m, numbers at a position, t), rows a multiple of `ALIGNMENT` apart."""
    m, t = values.shape[0], math.prod(positions)
    kept = values.shape[1 : values.dim() - len(positions)]
    if t % ALIGNMENT == 0:
        return values.reshape(m, -1, t)
    found = values.new_empty(m, math.prod(kept), t + -t % ALIGNMENT)[..., :t]
    found.unflatten(2, positions).unflatten(1, kept).copy_(values)  # type: ignore[no-untyped-call]
    return found


def _divisor(number: int, most: int) -> int:
    """The largest divisor that is at most `most`: all steps have the same size."""
    return next(d for d in range(min(number, most), 0, -1) if number % d == 0)
