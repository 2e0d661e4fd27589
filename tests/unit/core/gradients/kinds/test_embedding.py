"""Embeddings by the rows that a sample touched: padding, bags, ids that all samples share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.oracles.whole_gradients import require_autograds
from tests.zoo.case import Net


class Offset(nn.Embedding):
    """Rows from the second on, scaled, as OPT and Gemma have them."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 -- torch's own name
        return super().forward(input + 1) * 1.5


def bag_with_weights(model: Any, ids: Tensor) -> Tensor:
    found: Tensor = model.head(model.emb(ids, per_sample_weights=(ids + 1).double()))
    return found


def mean_of_rows(model: Any, ids: Tensor) -> Tensor:
    found: Tensor = model.head(model.emb(ids).mean(dim=1).tanh())
    return found


def bag(model: Any, ids: Tensor) -> Tensor:
    found: Tensor = model.head(model.emb(ids).tanh())
    return found


def positions_first(model: Any, ids: Tensor) -> Tensor:
    found: Tensor = model.head(model.emb(ids.t()).mean(dim=0).tanh())
    return found


CASES: dict[str, tuple[nn.Module, Callable[[Any, Tensor], Tensor]]] = {
    "rows": (nn.Embedding(9, 4), mean_of_rows),
    "padding": (nn.Embedding(9, 4, padding_idx=2), mean_of_rows),
    "positions_first": (nn.Embedding(9, 4), positions_first),
    "bag_mean": (nn.EmbeddingBag(9, 4), bag),
    "bag_mean_padding": (nn.EmbeddingBag(9, 4, padding_idx=2), bag),
    "bag_sum": (nn.EmbeddingBag(9, 4, mode="sum"), bag),
    "bag_weighted": (nn.EmbeddingBag(9, 4, mode="sum"), bag_with_weights),
    "offset_and_scaled": (Offset(9, 4), mean_of_rows),
    "offset_scaled_padding": (Offset(9, 4, padding_idx=3), mean_of_rows),
}


@pytest.mark.parametrize("case", CASES)
def test_touched_rows_are_autograds_gradient(case: str) -> None:
    """Held against a loop of plain autograd, sketched by the definition."""
    torch.manual_seed(0)
    emb, run = CASES[case]
    found = require_autograds(
        Net(run, emb=emb, head=nn.Linear(4, 3)).double(), ["emb"], ids(), ["emb.weight"]
    )

    assert [layer.path for layer in found.layers] == ["fast"]


@pytest.mark.parametrize("shape", ["one_sample", "none", "turned"])
def test_position_ids_that_all_samples_share_have_a_gradient_for_each(shape: str) -> None:
    """Of shape (1, t), or (t,), and turned before they meet the samples: no mixing of samples, and no last resort."""
    torch.manual_seed(0)

    def run(model: Any, given: Tensor) -> Tensor:
        places = torch.arange(given.shape[1])
        own = model.places(places[None] if shape == "one_sample" else places)
        own = own.t()[None].transpose(1, 2) if shape == "turned" else own
        found: Tensor = model.head((model.emb(given) + own).tanh().mean(dim=1))
        return found

    model = Net(run, emb=nn.Embedding(9, 4), places=nn.Embedding(5, 4), head=nn.Linear(4, 3)).double()
    found = require_autograds(model, ["places", "emb"], ids(), ["places.weight", "emb.weight"])

    assert [layer.path for layer in found.layers] == ["fast", "fast"]


def ids() -> Tensor:
    """Samples (5, 3) of a vocabulary of 8."""
    return torch.randint(0, 8, (5, 3), generator=torch.Generator().manual_seed(1))
