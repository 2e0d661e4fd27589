"""Layers with a derivative of their own or a hook on a gradient: no claim of their forward holds, and nothing is scaled."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.support.oracles.whole_gradients import require_autograds


class StraightThrough(torch.autograd.Function):
    """A product that gives its weight no gradient from large inputs."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(values, weight)
        return values @ weight.t() + bias

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        values, weight = ctx.saved_tensors
        kept = (values.abs() <= 1).to(values.dtype)
        return (outer[0] @ weight) * kept, outer[0].t() @ (values * kept), outer[0].sum(0)


class Clipped(torch.autograd.Function):
    """The identity, with a gradient that is clipped."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Tensor:
        return outer[0].clamp(-0.02, 0.02)


class OwnProduct(nn.Linear):
    """Looks like a Linear layer from the outside."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 -- torch's own name
        found: Tensor = StraightThrough.apply(input, self.weight, self.bias)
        return found


class ClippedWeight(nn.Linear):
    """The very numbers of its weight, with another derivative."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return functional.linear(input, Clipped.apply(self.weight), self.bias)


class HookedProduct(nn.Linear):
    """A hook on its output's gradient."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        found = functional.linear(input, self.weight.softmax(0), self.bias)
        if found.requires_grad:
            found.register_hook(lambda gradient: gradient.clamp(-0.02, 0.02))
        return found * 1


class OwnConvolution(nn.Conv2d):
    """A convolution of a clipped weight."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return functional.conv2d(input, Clipped.apply(self.weight), self.bias)


class HookedConvolution(nn.Conv2d):
    """A convolution with a hook on its output's gradient."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        found = functional.conv2d(input, self.weight, self.bias)
        if found.requires_grad:
            found.register_hook(lambda gradient: gradient.clamp(-0.001, 0.001))
        return found


@pytest.mark.parametrize("kind", [OwnProduct, ClippedWeight, HookedProduct])
def test_product_with_a_derivative_of_its_own_has_autograds_gradient(kind: type[nn.Linear]) -> None:
    """The probe's sample is small and shows nothing of it; the others are large."""
    torch.manual_seed(3)
    model = nn.Sequential(kind(6, 5), nn.Tanh(), nn.Linear(5, 3)).eval()
    inputs = torch.randn(7, 6) * 2
    inputs[0] *= 0.01

    require_autograds(model, ["0"], inputs, ["0.weight", "0.bias"])


@pytest.mark.parametrize("kind", [OwnConvolution, HookedConvolution])
def test_convolution_with_a_derivative_of_its_own_has_autograds_gradient(kind: type[nn.Conv2d]) -> None:
    """Clipping is not linear, so no gradient may be scaled before it."""
    torch.manual_seed(3)
    model = nn.Sequential(kind(2, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(64, 3)).eval()

    require_autograds(model, ["0"], torch.randn(5, 2, 6, 6), ["0.weight", "0.bias"])


class SetFromOutside(nn.Linear):
    """A product until the model gives it a scale for its bias."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        scale = getattr(self, "scale", None)
        if scale is None:
            return functional.linear(input, self.weight, self.bias)
        return functional.linear(input, self.weight) + self.bias * scale


def test_formula_that_the_model_sets_has_autograds_gradient() -> None:
    """By itself the layer is another one than within the model."""
    torch.manual_seed(3)
    model = nn.Sequential(SetFromOutside(6, 5), nn.Tanh(), nn.Linear(5, 3)).eval()
    model.register_forward_pre_hook(
        lambda module, args: setattr(module[0], "scale", (args[0].norm(dim=1, keepdim=True) > 1) + 1.0)
    )
    inputs = torch.randn(5, 6)
    inputs[0] *= 0.01

    require_autograds(model, ["0"], inputs, ["0.weight", "0.bias"])


@pytest.mark.filterwarnings("ignore:A hook on 0.weight")
def test_hook_on_a_parameter_counts_for_every_sample() -> None:
    """It clips no gradient of the probe's sample."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).eval()
    model[0].weight.register_hook(lambda gradient: gradient.clamp(-0.05, 0.05))
    inputs = torch.randn(5, 6) * 3
    inputs[0] *= 0.001

    require_autograds(model, ["0"], inputs, ["0.weight", "0.bias"])


class OtherForSequences(nn.Linear):
    """A product of vectors; of sequences something else."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        if input.dim() == 2:
            return functional.linear(input, self.weight, self.bias)
        found = functional.linear(input, self.weight)
        return torch.where(found > 1, found + self.bias.exp(), found + self.bias)


def test_formula_that_depends_on_the_axes_has_autograds_gradient() -> None:
    """It is looked at with an input of the shape that the model gives it."""
    torch.manual_seed(3)
    model = nn.Sequential(OtherForSequences(6, 5), nn.Tanh(), nn.Flatten(), nn.Linear(20, 3)).eval()
    inputs = torch.randn(5, 4, 6) * 3
    inputs[0] *= 0.001

    require_autograds(model, ["0"], inputs, ["0.weight", "0.bias"])
