"""Paths of layers: what the kinds claim, and the way down for a layer whose claim is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from dugs_stream import Deduplicator
from dugs_stream.core.gradients.kinds import normalisation
from dugs_stream.core.gradients.kinds.registry import fast_paths
from dugs_stream.core.gradients.layers import parameter_layers
from dugs_stream.core.gradients.paths import LayerPaths
from tests.support.late_imports import imported_late
from tests.support.oracles.whole_gradients import require_autograds
from tests.zoo.case import Net

pytorch_utils = imported_late("transformers.pytorch_utils")


def test_kinds_claim_what_they_compute() -> None:
    """The fast path is for modules that compute exactly x·Wᵀ + b of their own two parameters."""

    class Subclass(nn.Linear):
        pass

    class Overridden(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:  # noqa: A002 -- torch's own name
            return super().forward(input) * 2

    class Clamped(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:  # noqa: A002
            return super().forward(input.clamp(max=9))

    class Casting(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:  # noqa: A002
            return nn.functional.linear(input.to(self.weight.dtype), self.weight, self.bias)

    class ByHand(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:  # noqa: A002
            return input @ self.weight.T + self.bias

    replaced = nn.Linear(2, 2)
    replaced.forward = lambda inputs: inputs  # type: ignore[method-assign,assignment]
    model = nn.ModuleDict(
        {
            "plain": nn.Linear(2, 2),
            "without_bias": nn.Linear(2, 2, bias=False),
            "subclass": Subclass(2, 2),
            "overridden": Overridden(2, 2),
            "clamped": Clamped(2, 2),
            "casting": Casting(2, 2),
            "by_hand": ByHand(2, 2),
            "inputs_first": pytorch_utils.Conv1D(2, 2),
            "embedding": nn.Embedding(3, 2),
            "by_frequency": nn.Embedding(3, 2, scale_grad_by_freq=True),
            "bag": nn.EmbeddingBag(3, 2),
            "largest_of_a_bag": nn.EmbeddingBag(3, 2, mode="max"),
            "replaced": replaced,
            "normed": parametrizations.weight_norm(nn.Linear(2, 2)),
            "norm": nn.LayerNorm(2),
        }
    )
    first = {
        name: next(path.__name__.rpartition(".")[2] for path in fast_paths(layer))
        for name, layer in parameter_layers(model).items()
    }

    assert first == {
        **dict.fromkeys(["plain", "without_bias", "subclass", "casting", "by_hand"], "linear"),
        "inputs_first": "hf_conv1d",
        **dict.fromkeys(["embedding", "bag"], "embedding"),
        **dict.fromkeys(["overridden", "clamped", "replaced", "normed"], "recorded"),
        **dict.fromkeys(["by_frequency", "largest_of_a_bag"], "recorded"),
        "norm": "normalisation",
    }


class Branching(nn.Module):
    """What vmap cannot take: a choice by a sample's own numbers; and no product that is seen as one."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4))

    def forward(self, inputs: Tensor) -> Tensor:
        found = torch.einsum("na,ga->ng", inputs, self.weight)
        return found * 2 if float(found.detach().abs().sum()) > 0 else found


def test_layer_without_a_fast_path_goes_down_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind that is wrong for one layer, and a layer that only a loop can run again; the others stay."""
    torch.manual_seed(0)
    right = normalisation.formed
    monkeypatch.setattr(
        normalisation, "formed", lambda call, axes, sample: [2 * each for each in right(call, axes, sample)]
    )
    model = nn.Sequential(Branching(), nn.LayerNorm(4), nn.Linear(4, 3)).double()
    names = [name for name, _ in model.named_parameters()]
    inputs = torch.randn(5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = require_autograds(model, 3, inputs, names)

    assert [layer.path for layer in found.layers] == ["slow", "fast", "fast"]
    assert [layer.kind for layer in found.layers] == ["Branching", "LayerNorm", "Linear"]


def test_ladder_ends_in_the_loop() -> None:
    """One rung after the other; a parameter that is used elsewhere leaves none that looks at calls."""
    (layer,) = parameter_layers(nn.Sequential(nn.Linear(300, 300))).values()
    paths: LayerPaths | None = LayerPaths.quickest([layer])
    seen = []
    while paths is not None:
        seen.append(paths.of(layer).__name__.rpartition(".")[2])
        paths = paths.without_first([layer.name])

    assert seen == ["linear", "recorded", "vjp_batched", "vjp", "vjp_unscaled"]
    outside = LayerPaths.quickest([layer], outside=["0.weight"])
    assert outside.of(layer).__name__.endswith("recorded_everywhere")
    assert outside.without_first([layer.name]) is None


def test_large_weight_used_outside_of_its_layer_is_computed_for_many_samples_at_once() -> None:
    """The whole loss, each sample apart: right, and tiles stay as they are."""
    torch.manual_seed(0)
    body = nn.Linear(4, 1 << 15)
    model = Net(
        lambda m, x: m.head(torch.einsum("na,ga->ng", x, m.body.weight)),
        body=body,
        head=nn.Linear(1 << 15, 3),
    ).double()
    inputs = torch.randn(5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    deduplicator = Deduplicator(model, ["body"], dimension=16, tile=4)
    with pytest.warns(UserWarning, match="for each sample apart"):
        found = deduplicator.project(inputs, [0, 1, 2, 0, 1])

    assert deduplicator.tile == 4
    alone = deduplicator.project(inputs[2:3], [2])
    assert np.array_equal(alone.vectors[0], found.vectors[2])


@pytest.mark.parametrize("flat", [False, True], ids=["by_sample", "in_rows"])
def test_head_that_reads_an_embeddings_weight_is_fast_at_any_size(flat: bool) -> None:
    """The products of the whole pass are recorded, look-ups among them."""
    torch.manual_seed(0)

    def run(m: Any, ids: Tensor) -> Tensor:
        hidden = m.norm(m.emb(ids).cumsum(dim=1))
        rows = hidden.flatten(0, 1) if flat else hidden
        logits = functional.linear(rows, m.emb.weight) + rows @ m.emb.weight.T
        found: Tensor = logits.reshape(*ids.shape, -1).mean(dim=1)[:, :3]
        return found

    model = Net(run, emb=nn.Embedding(40_000, 2), norm=nn.LayerNorm(2)).double()
    ids = torch.randint(0, 7, (5, 3), generator=torch.Generator().manual_seed(1))
    found = require_autograds(model, ["*"], ids, ["emb.weight", "norm.weight", "norm.bias"])

    assert {layer.path for layer in found.layers} == {"fast"}
