"""Normalisation layers: gradients held against autograd's, and their bits in any company."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dugs_stream.core.gradients.kinds import normalisation
from tests.support.late_imports import imported_late
from tests.unit.core.gradients.kinds.captured import require_autograds, require_same_bits, the_layer

timm_layers = imported_late("timm.layers")

NORMS = {
    "layer": (lambda: nn.LayerNorm(6), (5, 4, 6)),
    "layer of aligned rows": (lambda: nn.LayerNorm(32), (5, 7, 32)),
    "timm's layer": (lambda: timm_layers.LayerNorm(6), (5, 4, 6)),
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


class Shifted(nn.LayerNorm):
    """More than a normalisation."""

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs + 1)


class OtherConstant(nn.LayerNorm):
    """Another constant than the module's own."""

    def forward(self, inputs: Tensor) -> Tensor:
        return nn.functional.layer_norm(inputs, self.normalized_shape, self.weight, self.bias, 1e-3)


class Scaled(nn.LayerNorm):
    """Another scale than the parameter."""

    def forward(self, inputs: Tensor) -> Tensor:
        return nn.functional.layer_norm(inputs, self.normalized_shape, self.weight * 1, self.bias, self.eps)


class _Reversed(torch.autograd.Function):
    """A layer normalisation forward, and another gradient back."""

    @staticmethod
    def forward(_context: Any, inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return nn.functional.layer_norm(inputs, weight.shape, weight, bias)

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return -gradient, -gradient.sum(0), -gradient.sum(0)


class OtherWayBack(nn.LayerNorm):
    """The same values with a backward pass of its own."""

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = _Reversed.apply(inputs, self.weight, self.bias)
        return found


@pytest.mark.parametrize("kind", ["Shifted", "OtherConstant", "Scaled", "OtherWayBack", "LayerNorm2d"])
def test_subclass_of_layer_norm_that_computes_something_else_is_not_taken(kind: str) -> None:
    """Its name proves nothing: only one step of autograd, with the module's own numbers, does."""
    made = globals().get(kind) or getattr(timm_layers, kind)

    assert not normalisation.takes(the_layer(made(6)))


class UnlikeForSome(nn.LayerNorm):
    """A layer normalisation as long as no input is large."""

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs) if bool((inputs < 2).all()) else inputs * self.weight + self.bias


def test_claim_about_a_subclass_is_refused_by_a_call_that_computes_something_else() -> None:
    """The claim was made from other numbers."""
    torch.manual_seed(1)
    module = UnlikeForSome(6)
    assert normalisation.takes(the_layer(module))

    with pytest.raises(ValueError, match="not a layer normalisation alone"):
        require_autograds(normalisation, module, torch.randn(5, 4, 6) * 9)
