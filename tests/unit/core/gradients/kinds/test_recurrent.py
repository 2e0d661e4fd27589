"""Recurrent layers: the factors of their recursion give autograd's gradient, for every form that torch has."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.oracles.whole_gradients import require_autograds
from tests.zoo.case import Net

FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "samples_first": {"batch_first": True},
    "two_layers_both_ways": {"num_layers": 2, "bidirectional": True, "batch_first": True, "dropout": 0.5},
    "without_bias": {"bias": False},
}


def _run(model: Any, inputs: Tensor) -> Tensor:
    """The outputs and the last state both lead to the loss."""
    values = inputs if model.rnn.batch_first else inputs.transpose(0, 1)
    outputs, state = model.rnn(values, model.first(inputs))
    outputs = outputs if model.rnn.batch_first else outputs.transpose(0, 1)
    last = state[1] if isinstance(state, tuple) else state
    found: Tensor = model.head(outputs.mean(dim=1)) + last[-1][:, :3]
    return found


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recursion_has_autograds_gradient(kind: type[nn.RNNBase], form: str) -> None:
    """Held against a loop of plain autograd, sketched by the definition."""
    torch.manual_seed(0)
    rnn = kind(4, 5, **FORMS[form])
    model = Net(_run, rnn=rnn, head=nn.Linear(5 * (2 if rnn.bidirectional else 1), 3), first=lambda _: None)
    names = [f"rnn.{name}" for name, _ in rnn.named_parameters()]
    found = require_autograds(model.double(), ["rnn"], sequences(), names)

    assert [layer.path for layer in found.layers] == ["fast"]


def test_projected_lstm_that_begins_with_a_state_of_the_samples() -> None:
    """Its third weight is a factor too, and a given state is an input like any other."""
    torch.manual_seed(0)

    def state(inputs: Tensor) -> tuple[Tensor, Tensor]:
        own = inputs.mean(dim=1)[None]
        return own[:, :, :3].contiguous(), torch.cat([own, own], dim=2)[:, :, :5].contiguous()

    rnn = nn.LSTM(4, 5, proj_size=3, batch_first=True)
    model = Net(_run, rnn=rnn, head=nn.Linear(3, 3), first=state)
    names = [f"rnn.{name}" for name, _ in rnn.named_parameters()]
    found = require_autograds(model.double(), ["rnn"], sequences(), names)

    assert [layer.path for layer in found.layers] == ["fast"]


@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_cell_called_once_a_step_adds_up(kind: type[nn.RNNCellBase]) -> None:
    """Its calls are the steps."""
    torch.manual_seed(0)

    def run(model: Any, inputs: Tensor) -> Tensor:
        state = model.cell(inputs[:, 0])
        for step in range(1, inputs.shape[1]):
            state = model.cell(inputs[:, step], state)
        found: Tensor = model.head(state[0] if isinstance(state, tuple) else state)
        return found

    cell = kind(4, 5)  # type: ignore[call-arg]  # torch's base class takes one more
    model = Net(run, cell=cell, head=nn.Linear(5, 3)).double()
    found = require_autograds(model, ["cell"], sequences(), [f"cell.{n}" for n, _ in cell.named_parameters()])

    assert [layer.path for layer in found.layers] == ["fast"]


def sequences() -> Tensor:
    """Samples (5, 3, 4)."""
    return torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
