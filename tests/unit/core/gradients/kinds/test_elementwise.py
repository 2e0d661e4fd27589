"""Layers whose parameters act element by element: gradients held against autograd's, and their bits in any company."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dugs_stream.core.gradients.kinds import elementwise
from tests.support.late_imports import imported_late
from tests.unit.core.gradients.kinds.captured import require_autograds, require_same_bits, the_layer, vectors

timm_layers = imported_late("timm.layers")
llama = imported_late("transformers.models.llama.modeling_llama")
gemma = imported_late("transformers.models.gemma.modeling_gemma")


class Temperature(nn.Module):
    """A logarithmic scale."""

    def __init__(self) -> None:
        super().__init__()
        self.logarithm = nn.Parameter(torch.tensor(0.3))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * self.logarithm.exp()


class ChannelScale(nn.Module):
    """A scale of channels as older models write it, into what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(6, 1, 1))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.mul_(self.gamma)


LAYERS = {
    "LlamaRMSNorm": (lambda: llama.LlamaRMSNorm(6), (5, 4, 6)),
    "GemmaRMSNorm": (lambda: gemma.GemmaRMSNorm(6), (5, 4, 6)),
    "LayerScale": (lambda: timm_layers.LayerScale(6), (5, 4, 6)),
    "LayerNorm2d": (lambda: timm_layers.LayerNorm2d(6), (5, 6, 3, 2)),
    "BatchNormAct2d": (lambda: timm_layers.BatchNormAct2d(6, act_layer=nn.SiLU), (5, 6, 4, 8)),
    "PReLU": (lambda: nn.PReLU(6), (5, 6, 3)),
    "PReLU of as many channels as positions": (lambda: nn.PReLU(6), (5, 6, 6)),
    "LayerScale of as many channels as positions": (lambda: timm_layers.LayerScale(6), (5, 6, 6)),
    "temperature": (Temperature, (5, 3)),
    "scale of channels": (ChannelScale, (5, 6, 3, 2)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_autograds_in_any_company(name: str) -> None:
    """Also of what is not linear in its parameter."""
    torch.manual_seed(1)
    build, shape = LAYERS[name]
    module = build()
    for each in (*module.parameters(), *(b for b in module.buffers() if b.is_floating_point())):
        each.data.uniform_(0.5, 2)
    inputs = torch.randn(shape) * 3 + 1
    before = inputs.clone()

    require_autograds(elementwise, module, inputs, 1e-6)  # some of them compute in float32
    require_same_bits(elementwise, module, inputs, [3, 0, 4, 4, 1])

    assert torch.equal(inputs, before)


class Counted(nn.Module):
    """Two parameters that meet, and how many times the forward ran."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.rand(6)), nn.Parameter(torch.rand(6))
        self.passes = 0

    def forward(self, inputs: Tensor) -> Tensor:
        self.passes += 1
        return (inputs + self.shift) * self.scale


def test_parameters_of_a_layer_share_its_forward() -> None:
    """One more pass for the layer, however many parameters it has."""
    torch.manual_seed(1)
    module, inputs = Counted(), torch.randn(5, 6)
    require_autograds(elementwise, module, inputs)
    module.passes = 0
    vectors(elementwise, the_layer(module.float()), inputs, torch.randn(5, 6))

    assert module.passes == 1


def test_matrices_and_parameters_of_children_are_not_claimed() -> None:
    """A layer with any of them is another kind's."""
    outer = nn.Sequential(nn.LayerNorm(2))
    outer.register_parameter("gamma", nn.Parameter(torch.ones(2)))

    assert not elementwise.takes(the_layer(nn.Linear(2, 2)))
    assert not elementwise.takes(the_layer(outer))
