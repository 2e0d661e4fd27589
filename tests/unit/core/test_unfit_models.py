"""Models that cannot be used for some layers: kernels without a backward pass, quantised layers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from dugs_stream import Deduplicator, ModelError

# Torch calls its first kind of quantisation deprecated, and warns of kernels without a backward pass; both lie around.
pytestmark = pytest.mark.filterwarnings("ignore")


class WholeNumbers(nn.Module):
    """A layer whose weight is whole numbers with a scale, as loaders of quantised models make them."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randint(-9, 9, (3, 8), dtype=torch.int8), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 8) → (n, 3)."""
        return x @ (self.weight.float() / 9).T


class OneWay(torch.autograd.Function):
    """An operator whose author wrote no backward pass."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x * 2


class Doubles(nn.Module):
    """A layer of that operator."""

    def forward(self, x: Tensor) -> Tensor:
        """(n, 8) → (n, 8)."""
        return OneWay.apply(x)  # type: ignore[no-any-return, no-untyped-call]


def above(layer: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), layer)


@pytest.mark.parametrize("build", [lambda: torch.ao.nn.quantized.dynamic.Linear(8, 3), WholeNumbers])
def test_quantised_layer_cannot_be_chosen(build: Callable[[], nn.Module]) -> None:
    """Its whole numbers have no gradient."""
    with pytest.raises(ModelError, match=r"'2' matches only.*quantised layers.*layers with parameters: 0"):
        Deduplicator(above(build()), ["2"], dimension=16).probe(torch.ones(4))


def test_layer_below_a_kernel_without_a_backward_pass_is_refused() -> None:
    """Autograd leaves that part of its gradient out, and warns once."""
    model = above(torch.ao.nn.quantized.dynamic.Linear(8, 3))

    with pytest.raises(
        ModelError, match=r"depends on 0\.weight, 0\.bias through a kernel that has no backward pass"
    ):
        Deduplicator(model, ["0"], dimension=16).probe(torch.ones(4))


def test_layer_above_such_a_kernel_goes() -> None:
    """What lies below does not count. (Torch's dynamic Linear is no example: it takes its scale from the whole batch.)"""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), Doubles(), nn.Linear(8, 3))

    assert [layer.name for layer in Deduplicator(model, 1, dimension=16).probe(torch.ones(4)).layers] == ["2"]


def test_layer_below_an_operator_that_raises_in_its_backward_pass_is_refused() -> None:
    """In torch's own words, and ours on what to do."""
    with pytest.raises(ModelError, match=r"cannot go back.*0 \(Linear\).*choose layers after"):
        Deduplicator(above(Doubles()), ["0"], dimension=16).probe(torch.ones(4))
