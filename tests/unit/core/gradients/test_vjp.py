"""Gradients of layers without a fast path, held against autograd's loop and the definition of the sketch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from dugs_stream import Deduplicator
from tests.support.oracles.gradients import per_sample_gradients, sketched

DIMENSION = 48


class SlowLinear(nn.Linear):
    """A Linear layer that the fast path does not recognise."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 -- torch's own name
        found = torch.einsum("...a,ga->...g", input, self.weight)
        return found if self.bias is None else found + self.bias


class Attention(nn.Module):
    """Self-attention over 3 positions, with a mask shared by all samples and weights as a second output."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(12, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        mask = torch.ones(3, 3, dtype=torch.bool).triu(1)
        mixed, weights = self.attention(inputs, inputs, value=inputs * 2, attn_mask=mask)
        found: Tensor = self.head((mixed + weights.sum(-1, keepdim=True)).flatten(1))
        return found


class Recurrent(nn.Module):
    """An LSTM whose state has its samples on the second axis, and a cell called once a step."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 5, batch_first=True)
        self.cell = nn.GRUCell(5, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs, (hidden, _) = self.lstm(inputs)
        state = hidden[0, :, :3]
        for step in range(outputs.shape[1]):
            state = self.cell(outputs[:, step], state)
        found: Tensor = state
        return found


class OwnParameter(nn.Module):
    """A layer with a scale and a position embedding of its own, and a child inside."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.positions = nn.Parameter(torch.randn(3, 4))
        self.head = nn.Linear(12, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.head(((inputs + self.positions) * self.scale).flatten(1).tanh())
        return found


class SamplesSecond(nn.Module):
    """Positions first, samples second, as older sequence models have it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.TransformerEncoderLayer(4, 2, 8)
        self.linear = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.linear(self.inner(inputs.transpose(0, 1))).mean(dim=0)
        return found


class OneParameterTwoNames(nn.Module):
    """A square matrix used under two names of one module."""

    def __init__(self) -> None:
        super().__init__()
        self.there = nn.Parameter(torch.randn(3, 3))
        self.back = self.there

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = (inputs[:, :, 0] @ self.there).tanh() @ self.back
        return found


def images() -> Tensor:
    return torch.randn(5, 2, 6, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def sequences() -> Tensor:
    return torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def tokens() -> Tensor:
    return torch.randint(0, 7, (5, 3), generator=torch.Generator().manual_seed(1))


def sequential(*modules: nn.Module) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*modules)


CASES: dict[str, tuple[Callable[[], nn.Module], list[str], Callable[[], Tensor]]] = {
    "conv": (
        sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(144, 3)),
        ["0", "3"],
        images,
    ),
    "conv_groups_stride": (
        sequential(nn.Conv2d(2, 4, 3, stride=2, groups=2, bias=False), nn.Flatten(), nn.Linear(16, 3)),
        ["0"],
        images,
    ),
    "batch_norm_eval": (
        sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        ["0", "1"],
        images,
    ),
    "layer_norm": (sequential(nn.LayerNorm(4), nn.Flatten(), nn.Linear(12, 3)), ["0"], sequences),
    "embedding": (sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(12, 3)), ["0"], tokens),
    "attention": (Attention, ["attention", "head"], sequences),
    "recurrent": (Recurrent, ["lstm", "cell"], sequences),
    "own_parameter": (OwnParameter, ["*"], sequences),
    "weight_norm": (
        sequential(nn.Flatten(), parametrizations.weight_norm(nn.Linear(12, 4)), nn.Tanh(), nn.Linear(4, 3)),
        ["1", "3"],
        sequences,
    ),
    "transformer_layer": (
        sequential(
            nn.TransformerEncoderLayer(4, 2, 8, dropout=0.1, batch_first=True), nn.Flatten(), nn.Linear(12, 3)
        ),
        ["0"],
        sequences,
    ),
    "two_names": (OneParameterTwoNames, ["*"], sequences),
    "samples_on_the_second_axis": (SamplesSecond, ["inner", "linear"], sequences),
}


@pytest.mark.parametrize("case", CASES)
def test_any_layer_has_autograds_gradient_sketched_by_the_definition(case: str) -> None:
    """Conv, norm, embedding, attention, recurrent and own parameters: all equal the slow way, in float64."""
    torch.manual_seed(0)
    build, globs, samples = CASES[case]
    model, inputs = build().double(), samples()
    labels = [0, 1, 2, 0, 1]
    projection = Deduplicator(model, globs, dimension=DIMENSION, seed=3, tile=4).project(inputs, labels)
    model.eval()
    gradients = per_sample_gradients(
        model,
        [""] if globs == ["*"] else globs,
        inputs,
        lambda outputs, at: nn.functional.cross_entropy(outputs, torch.tensor([labels[at]])),
    )

    for at, gradient in enumerate(gradients):
        expected = sketched(gradient, 3, DIMENSION)
        norm = np.linalg.norm(expected)
        assert projection.norms[at] == pytest.approx(norm, rel=1e-10)
        assert projection.vectors[at] == pytest.approx(expected / norm, abs=1e-6)


@pytest.mark.parametrize("shape", [(8,), (5, 8), (2, 3, 8)], ids=["one", "positions", "grid"])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_through_the_fallback_equals_linear_through_the_fast_path(
    shape: tuple[int, ...], bias: bool
) -> None:
    """The way a gradient is computed is a matter of speed: the map is one."""
    torch.manual_seed(0)
    width = 6 * int(np.prod(shape[:-1]))
    fast = nn.Sequential(nn.Linear(8, 6, bias=bias), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(width, 3))
    slow = nn.Sequential(
        SlowLinear(8, 6, bias=bias), nn.ReLU(inplace=True), nn.Flatten(), SlowLinear(width, 3)
    )
    slow.load_state_dict(fast.state_dict())
    inputs = torch.randn(5, *shape, generator=torch.Generator().manual_seed(1))
    projections = []
    for model, is_fast in ((fast, True), (slow, False)):
        deduplicator = Deduplicator(model, dimension=32, tile=4)
        projections.append(deduplicator.project(inputs, [0, 1, 2, 0, 1]))
        assert [layer.is_fast for layer in deduplicator.chosen_layers] == [is_fast, is_fast]

    assert projections[0].vectors == pytest.approx(projections[1].vectors, abs=2e-6)
    assert projections[0].norms == pytest.approx(projections[1].norms, rel=1e-5)


class UsedTwice(nn.Module):
    """One Linear layer used twice, and a head tied to the first layer's weight."""

    def __init__(self, linear: type[nn.Linear]) -> None:
        super().__init__()
        self.first = linear(6, 6)
        self.head = linear(6, 6, bias=False)
        self.head.weight = self.first.weight

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.head(self.first(self.first(inputs).tanh()).tanh())
        return found


@pytest.mark.parametrize("linear", [nn.Linear, SlowLinear])
def test_uses_of_one_parameter_add_up(linear: type[nn.Linear]) -> None:
    """A module called twice and a tied weight: the sketch is that of the whole gradient."""
    torch.manual_seed(0)
    model = UsedTwice(linear).double()
    inputs = torch.randn(3, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    projection = Deduplicator(model, 2, dimension=DIMENSION, tile=4).project(inputs, [0, 1, 2])
    gradients = per_sample_gradients(
        model,
        ["first", "head"],
        inputs,
        lambda outputs, at: nn.functional.cross_entropy(outputs, torch.tensor([at])),
    )

    assert set(gradients[0]) == {"first.weight", "first.bias"}
    for at, gradient in enumerate(gradients):
        expected = sketched(gradient, 0, DIMENSION)
        assert projection.norms[at] == pytest.approx(np.linalg.norm(expected), rel=1e-10)
        assert projection.vectors[at] == pytest.approx(expected / np.linalg.norm(expected), abs=1e-6)
