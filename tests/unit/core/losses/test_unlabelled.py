"""Energy and entropy of the logits: gradients of the plain formulas, directions where the model is sure, refusals."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor

from dugs_stream.core.losses.registry import resolve_loss
from dugs_stream.errors import ModelError

PLAIN: dict[str, Callable[[Tensor], Tensor]] = {
    "energy": lambda logits: -logits.exp().sum(dim=1).log(),
    "entropy": lambda logits: torch.special.entr(logits.softmax(dim=1)).sum(dim=1),
}
SOME_LOGITS = arrays.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(2, 6)), elements=st.floats(-20, 20, width=32))  # fmt: skip


def with_gradient(loss: str, logits: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """The losses (m,), and the gradient of their sum by the logits, as float32 leaves get it."""
    leaf = logits.detach().requires_grad_()
    losses = resolve_loss(loss, temperature).per_sample(leaf, None, leaf, len(leaf))
    (gradient,) = torch.autograd.grad(losses.sum(), leaf)
    return losses, gradient


@pytest.mark.parametrize("loss", PLAIN)
@settings(max_examples=30, deadline=None)
@given(drawn=SOME_LOGITS)
def test_value_and_gradient_are_those_of_the_plain_formula(loss: str, drawn: np.ndarray) -> None:
    """In float64, for logits of any size and sign, equal ones too; nothing is reduced over samples."""
    logits = torch.from_numpy(drawn).double()
    losses, gradient = with_gradient(loss, logits)
    leaf = logits.detach().requires_grad_()
    plain = PLAIN[loss](leaf)
    (wanted,) = torch.autograd.grad(plain.sum(), leaf)

    assert losses.dtype == torch.float64
    assert torch.allclose(losses, plain, rtol=1e-12, atol=1e-12)
    assert torch.allclose(gradient, wanted, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("margin", [0.5, 10.0, 40.0, 80.0])
def test_entropy_keeps_its_direction_where_the_model_is_sure(margin: float) -> None:
    """Right by 80 logits the gradient is 1e-33 long and still points away from the class that leads."""
    _, gradient = with_gradient("entropy", torch.tensor([[margin, 0.0, 0.0]]))
    rest = math.exp(-margin)

    assert gradient[0, 0].item() == pytest.approx(-2 * margin * rest / (1 + 2 * rest) ** 2, rel=1e-6)
    assert (gradient / -gradient[0, 0]).tolist() == [pytest.approx([-1.0, 0.5, 0.5], rel=1e-6)]


def test_energy_has_a_gradient_however_sure_the_model_is() -> None:
    """It is −softmax: its length lies between 1/√classes and 1, so that no record is without a gradient by it."""
    _, gradient = with_gradient("energy", torch.tensor([[90.0, 0.0], [0.0, 0.0]]))

    assert gradient.tolist() == [pytest.approx([-1.0, 0.0], abs=1e-30), [-0.5, -0.5]]


@pytest.mark.parametrize("loss", PLAIN)
def test_class_that_is_switched_off_by_minus_infinity_adds_nothing(loss: str) -> None:
    """Masked logits are usual in models with fewer classes than outputs."""
    losses, gradient = with_gradient(loss, torch.tensor([[1.0, -torch.inf, 3.0]]))
    without, rest = with_gradient(loss, torch.tensor([[1.0, 3.0]]))

    assert torch.allclose(losses, without)
    assert torch.allclose(gradient[:, [0, 2]], rest)
    assert gradient[0, 1] == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("loss", PLAIN)
def test_logits_that_are_not_finite_stay_with_their_sample(loss: str, bad: float) -> None:
    """The gradient of the neighbour is that of the neighbour alone; its own is NaN, so that the record is rejected."""
    _, gradient = with_gradient(loss, torch.tensor([[bad, 0.0, 1.0], [0.0, 1.0, 2.0]]))
    _, alone = with_gradient(loss, torch.tensor([[0.0, 1.0, 2.0]]))

    assert torch.equal(gradient[1:], alone)
    assert bool(gradient[0].isnan().any())


@pytest.mark.parametrize("loss", PLAIN)
def test_given_labels_are_ignored_and_the_prediction_is_told(loss: str) -> None:
    """An event carries the class that the model predicts, as with pseudo-labels."""
    found = resolve_loss(loss)
    logits = torch.tensor([[0.0, 1.0], [5.0, 1.0]])

    assert found.labels(logits, torch.tensor([0, 0])).tolist() == [1, 0]  # type: ignore[union-attr]
    ignoring, none = (found.per_sample(logits, given, logits, 2) for given in (torch.tensor([0, 0]), None))
    assert torch.equal(ignoring, none)


@pytest.mark.parametrize("loss", PLAIN)
@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        (torch.zeros(4), "expected logits"),
        (torch.zeros(4, 3, 2), "expected logits"),
        (torch.zeros(4, 1), "single class"),
        (torch.zeros(3, 4), "samples on the first axis"),
        ({"ids": torch.zeros(4, dtype=torch.int64)}, "without logits"),
    ],
)
def test_outputs_that_are_not_logits_are_refused(loss: str, outputs: object, words: str) -> None:
    """As by every loss of classes; texts without a classifier's head have causal_lm and masked_lm."""
    with pytest.raises(ModelError, match=words):
        resolve_loss(loss).per_sample(outputs, None, torch.zeros(4, 2), 4)


def test_energy_at_temperature_1_has_the_bits_of_the_plain_energy() -> None:
    """Lists that began before there was a temperature go on: loss and gradient are the same to the last bit."""
    logits = 30 * torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    losses, gradient = with_gradient("energy", logits)
    leaf = logits.detach().requires_grad_()
    plain = -leaf.double().logsumexp(dim=1)
    (wanted,) = torch.autograd.grad(plain.sum(), leaf)

    assert torch.equal(losses, plain)
    assert torch.equal(gradient, wanted)


@pytest.mark.parametrize("temperature", [0.25, 2, 3.5, 1000.0])
def test_gradient_of_the_energy_is_minus_the_softmax_at_its_temperature(temperature: float) -> None:
    """By autograd of −T·log Σ exp(logits / T) as it is written, value and gradient."""
    logits = 5 * torch.randn(20, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    losses, gradient = with_gradient("energy", logits, temperature)

    assert torch.allclose(losses, -temperature * (logits / temperature).exp().sum(dim=1).log(), rtol=1e-12)
    assert torch.allclose(gradient, -(logits / temperature).softmax(dim=1), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("loss", "temperature", "error", "words"),
    [
        ("energy", 0, ValueError, "temperature is 0, expected a finite number above 0"),
        ("energy", -1.0, ValueError, "above 0"),
        ("energy", math.nan, ValueError, "finite"),
        ("energy", math.inf, ValueError, "finite"),
        ("energy", "2", TypeError, "temperature is '2', expected a number"),
        ("energy", True, TypeError, "expected a number"),
        ("label", 2.0, ValueError, "the loss 'label' takes none: only energy does"),
        ("entropy", 2.0, ValueError, "the loss 'entropy' takes none"),
        (lambda outputs, labels: outputs.sum(1), 2.0, ValueError, "the loss a function takes none"),
    ],
)
def test_temperature_that_cannot_be_meant_is_refused(
    loss: Any, temperature: Any, error: type[Exception], words: str
) -> None:
    """A number that no loss would look at is an error, so that nobody believes it did something."""
    with pytest.raises(error, match=words):
        resolve_loss(loss, temperature)
