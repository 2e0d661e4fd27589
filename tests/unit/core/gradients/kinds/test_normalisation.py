"""Normalisation layers: gradients held against autograd's, and their bits in any company."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dugs_stream.core.gradients.kinds import normalisation
from tests.unit.core.gradients.kinds.captured import require_autograds, require_same_bits

NORMS = {
    "layer": (lambda: nn.LayerNorm(6), (5, 4, 6)),
    "layer of aligned rows": (lambda: nn.LayerNorm(32), (5, 7, 32)),
    "layer over two axes": (lambda: nn.LayerNorm((4, 6)), (5, 3, 4, 6)),
    "layer of no positions": (lambda: nn.LayerNorm(6), (5, 6)),
    "layer without shift": (lambda: nn.LayerNorm(6, bias=False), (5, 4, 6)),
    "root mean square": (lambda: nn.RMSNorm(6), (5, 4, 6)),
    "group": (lambda: nn.GroupNorm(2, 6), (5, 6, 3, 3)),
    "batch": (lambda: nn.BatchNorm2d(6), (5, 6, 3, 3)),
    "batch without positions": (lambda: nn.BatchNorm1d(6), (5, 6)),
    "batch over time": (lambda: nn.BatchNorm1d(6), (5, 6, 4)),
    "batch in space": (lambda: nn.BatchNorm3d(6), (5, 6, 2, 3, 2)),
    "instance": (lambda: nn.InstanceNorm2d(6, affine=True), (5, 6, 3, 3)),
    "instance by running statistics": (
        lambda: nn.InstanceNorm1d(6, affine=True, track_running_stats=True),
        (5, 6, 4),
    ),
}


@pytest.mark.parametrize("name", NORMS)
def test_gradients_are_autograds_in_any_company(name: str) -> None:
    """Scale and shift of every kind, with statistics that training left."""
    torch.manual_seed(1)
    build, shape = NORMS[name]
    module = build()
    for each in (*module.parameters(), *(b for b in module.buffers() if b.is_floating_point())):
        each.data.uniform_(0.5, 2)
    inputs = torch.randn(shape) * 3 + 1

    require_autograds(normalisation, module, inputs)
    require_same_bits(normalisation, module, inputs, [3, 0, 4, 4, 1])
