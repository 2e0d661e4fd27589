"""Small parameters with a copy for each sample: tables, tokens, scales, norms by hand, relative biases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.support.oracles.whole_gradients import require_autograds
from tests.zoo.case import Net

P = nn.Parameter
Run = Callable[[Any, Tensor], Tensor]


def token_and_table(m: Any, x: Tensor) -> Tensor:
    joined = torch.cat([m.token.expand(len(x), -1, -1), x], dim=1) + m.table
    found: Tensor = m.head(joined.tanh().mean(dim=1))
    return found


def table_without_samples(m: Any, x: Tensor) -> Tensor:
    found: Tensor = m.head((x * m.scale.exp() + m.table[:3].unsqueeze(0)).tanh().mean(dim=1))
    return found


def norm_by_hand(m: Any, x: Tensor) -> Tensor:
    normal = x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + 1e-6)
    found: Tensor = m.head((normal * (1.0 + m.weight.float())).tanh().mean(dim=1))
    return found


def functional_norm(m: Any, x: Tensor) -> Tensor:
    found: Tensor = m.head(functional.layer_norm(x, (4,), m.weight, m.bias).tanh().mean(dim=1))
    return found


def prompt(m: Any, x: Tensor) -> Tensor:
    found: Tensor = m.head((m.prompt.expand(len(x), 3, 4) * x).mean(dim=1))
    return found


def matrix_by_hand(m: Any, x: Tensor) -> Tensor:
    found: Tensor = m.head((x @ (m.matrix * 2)).tanh().mean(dim=1))
    return found


CASES: dict[str, tuple[dict[str, P], Run]] = {
    "token_and_table": (
        {"token": P(torch.randn(1, 1, 4)), "table": P(torch.randn(1, 4, 4))},
        token_and_table,
    ),
    "table_without_samples": (
        {"scale": P(torch.tensor(0.3)), "table": P(torch.randn(5, 4))},
        table_without_samples,
    ),
    "norm_by_hand": ({"weight": P(torch.randn(4))}, norm_by_hand),
    "functional_norm": ({"weight": P(torch.randn(4)), "bias": P(torch.randn(4))}, functional_norm),
    "prompt": ({"prompt": P(torch.randn(4))}, prompt),
    "matrix_by_hand": ({"matrix": P(torch.randn(4, 4))}, matrix_by_hand),
}


@pytest.mark.parametrize("case", CASES)
def test_parameters_of_a_models_own_are_fast(case: str) -> None:
    """Held against a loop of plain autograd, sketched by the definition; the layers inside stay fast beside them."""
    torch.manual_seed(0)
    parts, run = CASES[case]
    model = Net(run, head=nn.Linear(4, 3), **parts).double()
    found = require_autograds(model, ["*"], sequences(), [name for name, _ in model.named_parameters()])

    assert {layer.path for layer in found.layers} == {"fast"}


def test_parameter_used_outside_of_its_layer_is_fast_if_it_is_small() -> None:
    """The bias of the head scales what goes into it."""
    torch.manual_seed(0)
    model = Net(lambda m, x: m.head(x.mean(dim=1)) * (1 + m.head.bias), head=nn.Linear(4, 3)).double()
    found = require_autograds(model, ["head"], sequences(), ["head.weight", "head.bias"])

    assert [layer.path for layer in found.layers] == ["fast"]


def test_relative_bias_that_all_samples_and_layers_share() -> None:
    """An embedding of differences of places, turned to (1, heads, t, t), as T5 has it."""
    torch.manual_seed(0)

    def run(m: Any, x: Tensor) -> Tensor:
        places = torch.arange(x.shape[1])
        bias = m.bias(places[:, None] - places[None] + 2).permute(2, 0, 1).unsqueeze(0)
        for _ in range(2):
            mixed = (x[:, None] @ x[:, None].transpose(-1, -2) + bias).softmax(dim=-1) @ x[:, None]
            x = mixed.sum(dim=1)
        found: Tensor = m.head(x.mean(dim=1))
        return found

    model = Net(run, bias=nn.Embedding(5, 2), head=nn.Linear(4, 3)).double()
    found = require_autograds(model, ["*"], sequences(), ["bias.weight", "head.weight", "head.bias"])

    assert {layer.path for layer in found.layers} == {"fast"}


def sequences() -> Tensor:
    """Samples (5, 3, 4)."""
    return torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
