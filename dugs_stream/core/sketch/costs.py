"""Costs of the elementary steps of a sketch, from which the quickest route to a vector is chosen.

Only ratios matter. The defaults of a device are fixed, so that one machine takes one route from run to run: routes give
the same vector up to rounding, and not the same bits.
"""

import math
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Costs:
    """Nanoseconds of one thread in float32, a sample of a tile.

    product    a multiply-add of a matrix product
    layout     a formed entry, moved so that those of all samples lie side by side
    scatter    such an entry, added to its bucket
    gather     a number of an axis' sketch
    transform  a number of a real FFT, times log2 k
    spectrum   a number of the product of two spectra, added up
    """

    product: float
    layout: float
    scatter: float
    gather: float
    transform: float
    spectrum: float

    def summed(self, positions: int, rows: int, columns: int) -> float:
        """Cost of forming Σ_t g_t ⊗ a_t and adding up its buckets."""
        formed = positions * self.product + self.layout if positions > 1 else 0.0
        return rows * columns * (formed + self.scatter)

    def spectral(self, positions: int, rows: int, columns: int, dimension: int) -> float:
        """Cost of sketching both sides of each position and multiplying their spectra."""
        gathered = max(rows, dimension) + max(columns, dimension)
        transformed = 2 * dimension * math.log2(max(dimension, 2))
        return positions * (gathered * self.gather + transformed * self.transform + dimension * self.spectrum)


CPU = Costs(product=0.016, layout=0.6, scatter=0.5, gather=0.7, transform=0.08, spectrum=1.2)
CUDA = Costs(product=0.016, layout=0.6, scatter=0.5, gather=0.7, transform=0.08, spectrum=1.2)


def default_costs(device: torch.device) -> Costs:
    """The built-in costs of this kind of device."""
    return CUDA if device.type == "cuda" else CPU
