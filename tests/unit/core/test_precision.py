"""Precision: what inputs are converted to, and gradients of any size that keep their direction."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dugs_stream import Deduplicator
from dugs_stream.core.gradient_spec import GradientSpec

WIDTH = 8
SCALES = 10.0 ** torch.arange(-9, 5)


class Net(nn.Module):
    """A body and a head, each in a precision of its own."""

    def __init__(self, body: torch.dtype, head: torch.dtype, *, converts: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Linear(WIDTH, WIDTH).to(body)
        self.head = nn.Linear(WIDTH, 3).to(head)
        self.converts = converts

    def forward(self, x: Tensor) -> Tensor:
        """Converts what it is given, or expects it in the body's precision."""
        hidden = self.body(x.to(self.body.weight.dtype) if self.converts else x).relu()
        return self.head(hidden.to(self.head.weight.dtype if not self.converts else x.dtype))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("body", "head", "converts", "expected"),
    [
        (torch.bfloat16, torch.float32, True, torch.float32),
        (torch.bfloat16, torch.float32, False, torch.bfloat16),
        (torch.float32, torch.bfloat16, False, torch.float32),
        (torch.float64, torch.float64, False, torch.float64),
        (torch.bfloat16, torch.bfloat16, False, torch.bfloat16),
    ],
)
def test_inputs_get_the_widest_precision_that_the_model_takes(
    body: torch.dtype, head: torch.dtype, converts: bool, expected: torch.dtype
) -> None:
    """Its own, or of several the one in which it runs."""
    spec = GradientSpec(Net(body, head, converts=converts), 2, "label", 16, 0, "cpu", 4)
    batch: Any = spec.in_precision(torch.ones(2, WIDTH), is_sample=False)

    assert batch.dtype == expected
    engine = Deduplicator(spec.model, 2, dimension=64)
    assert (engine.project(torch.ones(2, WIDTH), [0, 1]).norms > 0).all()


class Autocast(nn.Module):
    """Its own autocast around a float32 model."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Net(torch.float32, torch.float32, converts=False)

    def forward(self, x: Tensor) -> Tensor:
        """In bfloat16 where autocast says so."""
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = self.inner.body(x).relu()
            return self.inner.head(hidden)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("build", "rounding"),
    [
        (lambda: Net(torch.float32, torch.float32, converts=False), 1e-6),
        (lambda: Net(torch.bfloat16, torch.bfloat16, converts=False), 2e-2),
        (Autocast, 2e-2),
    ],
)
def test_gradients_from_1e9_th_to_1e4_in_one_batch_keep_their_direction(build: Any, rounding: float) -> None:
    """Each is the gradient of the same loss, only longer or shorter."""

    def scaled(outputs: Tensor, labels: Tensor) -> Tensor:
        return outputs.float().square().sum(dim=1) * labels

    inputs = torch.randn(1, WIDTH, generator=torch.Generator().manual_seed(1)).expand(len(SCALES), WIDTH)
    engine = Deduplicator(build(), 2, loss=scaled, dimension=128, tile=8)
    found = engine.project(inputs, SCALES)

    at_one = int((SCALES == 1).nonzero())
    cosines = found.vectors.astype(np.float64) @ found.vectors[at_one].astype(np.float64)
    assert cosines == pytest.approx(np.ones(len(SCALES)), abs=rounding**2 * 10 + 1e-7)
    assert found.norms / found.norms[at_one] == pytest.approx(SCALES.numpy(), rel=max(rounding, 1e-5))


@pytest.mark.parametrize("build", [lambda: Net(torch.bfloat16, torch.bfloat16, converts=False), Autocast])
def test_half_precision_goes_the_fast_way_and_no_company_changes_it(build: Any) -> None:
    """The sketch is in float32; a sample alone has the bits that it has among others."""
    engine = Deduplicator(build(), 2, dimension=64, tile=4)
    inputs = torch.randn(6, WIDTH, generator=torch.Generator().manual_seed(2))
    whole = engine.project(inputs, [0, 1, 2, 0, 1, 2])

    assert [layer.path for layer in engine.chosen_layers] == ["fast", "fast"]
    for at in range(6):
        alone = engine.project(inputs[at : at + 1], [at % 3])
        assert np.array_equal(alone.vectors[0], whole.vectors[at])
