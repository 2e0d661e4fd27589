"""Gradient of a weight that slides over an image: Σ over positions of one factor ⊗ the patch of the other beneath it.

Convolutions and transposed ones of any number of axes, with stride, dilation and groups. Cost of a sample with t
positions, rows r and patches of c numbers: O(t·k·log k + t·c) by the spectral route, O(t·r·c) by the summed one.
"""

import math
from dataclasses import dataclass

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
        """A view (m, c, *kernel, *positions) of a contiguous image (m, c, *size), as large as `extent` or larger."""
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
    if groups == 1 and parameter.prefers_spectrum(t):
        total.add_spectra(_spectrum(parameter, rows, image, window), exponents)
        return
    m, numbers = rows.shape[0], image.shape[1] * math.prod(window.kernel) * _aligned(t)
    step = _divisor(m, max(1, _PATCH_NUMBERS // max(numbers, 1)))
    parts = [
        parameter.dense(sliding_product(some, under, window, groups))
        for some, under in zip(torch.split(rows, step), torch.split(image, step), strict=True)
    ]
    total.add(torch.cat(parts), exponents)


def sliding_product(rows: Tensor, image: Tensor, window: Window, groups: int) -> Tensor:
    """Σ_t rows_t ⊗ patch_t: rows (m, r, *positions), image (m, c, *size) → (m, r, c/groups, *kernel)."""
    m, r = rows.shape[:2]
    t = math.prod(window.positions)
    padding = (0, _aligned(t) - t)
    left = torch.nn.functional.pad(rows.reshape(m * groups, r // groups, t), padding)
    patches = window.patches(image.contiguous()).reshape(m * groups, -1, t)
    product = torch.bmm(left, torch.nn.functional.pad(patches, padding).transpose(1, 2))
    return product.view(m, r, image.shape[1] // groups, *window.kernel)


def _spectrum(parameter: ParameterSketch, rows: Tensor, image: Tensor, window: Window) -> Tensor:
    """The half spectrum (m, k//2 + 1) of the sketch of Σ_t rows_t ⊗ patch_t."""
    m, axes = rows.shape[0], len(window.kernel)
    left = rows.flatten(2).transpose(1, 2)  # (m, t, r)
    patches = window.patches(image.contiguous()).movedim(tuple(range(-axes, 0)), tuple(range(1, axes + 1)))
    numbers = patches[:, 0].numel() if axes else 0
    step = max(1, _PATCH_NUMBERS // max(numbers, 1))
    total: Tensor | None = None
    for start in range(0, window.positions[0], step):
        some = patches[:, start : start + step].reshape(m, -1, math.prod(patches.shape[axes + 1 :]))
        at = start * math.prod(window.positions[1:])
        part = parameter.outer_spectrum(left[:, at : at + some.shape[1]], some)
        total = part if total is None else total + part
    assert total is not None  # noqa: S101 -- a convolution has at least one position
    return total


def _aligned(length: int) -> int:
    return length + -length % _ALIGNMENT


def _divisor(number: int, most: int) -> int:
    """The largest divisor that is at most `most`: all steps have the same size."""
    return next(d for d in range(min(number, most), 0, -1) if number % d == 0)
