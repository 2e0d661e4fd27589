"""The choice of a route follows from shapes and costs, and from nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dugs_stream.core.sketch.costs import CPU, Costs
from dugs_stream.core.sketch.count_sketch import Sketch
from dugs_stream.core.sketch.scaling import ScaledSum

DEVICE = torch.device("cpu")


def chosen(costs: Costs | None, positions: int) -> str:
    """The route of a 30 × 20 matrix at k = 64: which part of the sum it went into."""
    sketch = Sketch(0, 64, DEVICE, costs)
    total = ScaledSum(2, 64, torch.float32, DEVICE)
    g, a = torch.ones(2, positions, 30), torch.ones(2, positions, 20)
    sketch.parameter("w", (30, 20)).add_outer(total, g, a, torch.zeros(2, dtype=torch.int32))
    return "spectral" if total._spectra is not None else "summed"


@pytest.mark.parametrize("positions", [1, 100])
def test_the_cheaper_route_is_taken(positions: int) -> None:
    """A dear product or scatter sends a gradient through spectra, a dear transform through its sum."""
    assert chosen(replace(CPU, scatter=1e6), positions) == "spectral"
    assert chosen(replace(CPU, transform=1e6), positions) == "summed"
    assert chosen(replace(CPU, product=1e6), 100) == "spectral"
    assert chosen(None, positions) == chosen(CPU, positions)


@pytest.mark.parametrize(
    ("shape", "positions", "dimension", "is_spectral"),
    [
        ((640, 1024), 1, 4096, True),
        ((12, 640), 1, 4096, False),
        ((1536, 384), 64, 2048, True),
        ((384, 384), 64, 2048, False),
        ((1024, 256), 128, 512, True),
        ((1024, 256), 128, 4096, False),
    ],
)
def test_built_in_costs_choose_what_was_measured_to_be_quicker(
    shape: tuple[int, int], positions: int, dimension: int, is_spectral: bool
) -> None:
    """Heads of classifiers, and matrices of small transformers."""
    assert Sketch(0, dimension, DEVICE).parameter("w", shape).prefers_spectrum(positions) is is_spectral
