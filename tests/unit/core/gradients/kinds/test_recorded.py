"""Products recorded inside a layer: attention in all its forms, adapters by hand, and what is no product."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from dugs_stream.core.gradients.attention_forward import attention_forward
from tests.support.oracles.whole_gradients import require_autograds
from tests.zoo.case import Net

Run = Callable[[Any, Tensor], Tensor]


def attention(**call: Any) -> Run:
    def run(model: Any, inputs: Tensor) -> Tensor:
        values = inputs if model.layer.batch_first else inputs.transpose(0, 1)
        given = {name: each(values) if callable(each) else each for name, each in call.items()}
        mixed, weights = model.layer(values, given.pop("key", values), given.pop("value", values), **given)
        mixed = mixed if model.layer.batch_first else mixed.transpose(0, 1)
        mixed = mixed if weights is None else mixed + weights.sum(dim=-1, keepdim=True).square()
        found: Tensor = model.head(mixed.mean(dim=1))
        return found

    return run


CAUSAL = torch.ones(3, 3, dtype=torch.bool).triu(1)
FORMS: dict[str, tuple[dict[str, Any], Run]] = {
    "samples_first": ({"batch_first": True}, attention()),
    "samples_second": ({}, attention()),
    "without_weights_and_bias": ({"bias": False}, attention(need_weights=False)),
    "causal": ({"batch_first": True}, attention(attn_mask=CAUSAL, need_weights=False, is_causal=True)),
    "padded": (
        {"batch_first": True},
        attention(key_padding_mask=lambda x: x[:, :, 0] > 1, average_attn_weights=False, need_weights=False),
    ),
    "other_values": ({"batch_first": True}, attention(key=lambda x: x * 2, value=torch.tanh)),
    "other_widths": (
        {"batch_first": True, "kdim": 2, "vdim": 1},
        attention(key=lambda x: x[:, :, :2], value=lambda x: x[:, :, :1]),
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_attention_goes_by_the_factors_of_its_projections(form: str) -> None:
    """Held against a loop of plain autograd, sketched by the definition."""
    torch.manual_seed(0)
    options, run = FORMS[form]
    model = Net(run, layer=nn.MultiheadAttention(4, 2, **options), head=nn.Linear(4, 3)).double()
    names = [f"layer.{name}" for name, _ in model.layer.named_parameters()]
    found = require_autograds(model, ["layer"], sequences(), names)

    assert [layer.path for layer in found.layers] == ["fast"]


@pytest.mark.parametrize("needs_weights", [False, True])
def test_attention_forward_gives_torchs_own_values(needs_weights: bool) -> None:
    """With both masks, one of them for each sample and head."""
    torch.manual_seed(0)
    layer, values = nn.MultiheadAttention(4, 2).double().eval(), sequences().transpose(0, 1)
    mask = torch.randn(10, 3, 3, dtype=torch.float64)
    padding = torch.tensor([[0.0, 0.0, -torch.inf]], dtype=torch.float64).expand(5, 3)
    args = (
        values,
        values,
        values * 2,
        4,
        2,
        layer.in_proj_weight,
        layer.in_proj_bias,
        None,
        None,
        False,
        0.0,
    )
    args = (*args, layer.out_proj.weight, layer.out_proj.bias)
    options = {
        "training": False,
        "key_padding_mask": padding,
        "need_weights": needs_weights,
        "attn_mask": mask,
    }
    options["average_attn_weights"] = False
    expected = functional.multi_head_attention_forward(*args, **options)  # type: ignore[arg-type]
    found = attention_forward(functional.linear, *args, **options)  # type: ignore[arg-type]

    assert torch.allclose(found[0], expected[0])
    assert (found[1] is None) == (expected[1] is None)
    assert found[1] is None or torch.allclose(found[1], expected[1])


class Adapted(nn.Linear):
    """A linear layer with an adapter of rank 2, as LoRA has it."""

    def __init__(self) -> None:
        super().__init__(4, 4)
        self.down = nn.Parameter(torch.randn(2, 4))
        self.up = nn.Parameter(torch.randn(4, 2))

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 -- torch's own name
        return super().forward(input) + functional.linear(input @ self.down.T, self.up)


class Penalised(Adapted):
    """One that uses a weight in more than products."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return super().forward(input) * torch.linalg.vector_norm(self.up)


@pytest.mark.parametrize("kind", [Adapted, Penalised])
def test_adapter_by_hand_is_right_and_another_use_of_its_weights_is_noticed(kind: type[nn.Linear]) -> None:
    """Of true leaves: the frozen weight, and both matrices of the adapter."""
    torch.manual_seed(0)
    model = Net(
        lambda m, x: m.head(m.layer(x).tanh().mean(dim=1)), layer=kind(), head=nn.Linear(4, 3)
    ).double()
    names = [f"layer.{name}" for name, _ in model.layer.named_parameters()]
    found = require_autograds(model, ["layer"], sequences(), names)

    assert not found.is_last_resort


def sequences() -> Tensor:
    """Samples (5, 3, 4)."""
    return torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
