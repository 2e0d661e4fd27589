"""Losses per sample: their gradients, their labels, their refusals."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from dugs_stream.core.gradients.losses import cross_entropy, predicted_labels, resolve_loss
from dugs_stream.errors import ModelError


@pytest.mark.parametrize("margin", [0.0, 10.0, 40.0, 70.0])
def test_cross_entropy_keeps_the_gradients_direction_where_the_model_is_sure(margin: float) -> None:
    """Right by 70 logits the gradient is 1e-30 long and still points where it should."""
    logits = torch.tensor([[margin, 0.0, 0.0]], requires_grad=True)
    losses = cross_entropy(logits, torch.tensor([0]))
    (gradient,) = torch.autograd.grad(losses.sum(), logits)

    assert losses.dtype == torch.float64
    assert 0 < -gradient[0, 0].item() == pytest.approx(2 / (math.exp(margin) + 2), rel=1e-6)
    assert (gradient / -gradient[0, 0]).tolist() == [pytest.approx([-1.0, 0.5, 0.5], rel=1e-6)]


@pytest.mark.parametrize("label", [0, 1, 2])
def test_cross_entropy_has_autograds_gradient_of_the_plain_formula(label: int) -> None:
    """Right or wrong, near or far: the same gradient as −log softmax in float64."""
    logits = 5 * torch.randn(6, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    logits.requires_grad_()
    labels = torch.full((6,), label)
    (found,) = torch.autograd.grad(cross_entropy(logits, labels).sum(), logits)
    (plain,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, labels, reduction="sum"), logits)

    assert torch.allclose(found, plain, atol=1e-12, rtol=0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_not_finite_stay_with_their_sample(bad: float) -> None:
    """The gradient of the neighbour is that of the neighbour alone."""
    logits = torch.tensor([[bad, 0.0, 1.0], [0.0, 1.0, 2.0]], requires_grad=True)
    (found,) = torch.autograd.grad(cross_entropy(logits, torch.tensor([0, 1])).sum(), logits)
    alone = logits[1:].detach().requires_grad_()
    (expected,) = torch.autograd.grad(cross_entropy(alone, torch.tensor([1])).sum(), alone)

    assert torch.equal(found[1:], expected)


def test_logits_of_a_single_class_are_refused() -> None:
    """There is nothing to be wrong about, so there is no gradient."""
    with pytest.raises(ModelError, match="single class"):
        cross_entropy(torch.zeros(4, 1), torch.zeros(4, dtype=torch.int64))


def test_cross_entropy_is_one_loss_a_sample() -> None:
    """Nothing is reduced over samples."""
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 0, 1])
    expected = -logits.double().log_softmax(dim=1)[torch.arange(5), labels]

    assert torch.allclose(cross_entropy(logits, labels), expected)


def test_predicted_label_of_a_tie_is_the_first() -> None:
    """The class of the largest logit, and the earliest of equals."""
    assert predicted_labels(torch.tensor([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])).tolist() == [1, 0]


def test_pseudo_loss_ignores_given_labels() -> None:
    """Its labels are the model's own prediction."""
    loss = resolve_loss("pseudo")

    assert loss.labels(torch.tensor([[0.0, 1.0]]), torch.tensor([0])).tolist() == [1]  # type: ignore[union-attr]


def test_unknown_name_is_refused_with_the_known_ones() -> None:
    """A misspelt loss names what there is."""
    with pytest.raises(ValueError, match=r"'lable'.*label, pseudo"):
        resolve_loss("lable")


def test_something_that_is_no_function_is_refused() -> None:
    """A loss is a name or callable."""
    with pytest.raises(TypeError, match="name or a function"):
        resolve_loss(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("outputs", [torch.zeros(4), torch.zeros(4, 3, 2), {"logits": torch.zeros(4, 3)}])
def test_outputs_that_are_no_logits_are_refused(outputs: Tensor) -> None:
    """A classification loss needs (samples, classes), and says what it got."""
    with pytest.raises(ModelError, match=r"expected logits \(samples, classes\)"):
        cross_entropy(outputs, torch.zeros(4, dtype=torch.int64))


@pytest.mark.parametrize(
    "found", [torch.zeros(()), torch.zeros(3), torch.zeros(4, 1), torch.zeros(4, dtype=torch.int64)]
)
def test_users_loss_of_another_shape_is_refused(found: Tensor) -> None:
    """One loss a sample in floating point; a mean over the batch is refused with the cure."""
    loss = resolve_loss(lambda outputs, labels: found)

    with pytest.raises(ModelError, match="reduction='none'"):
        loss.per_sample(torch.zeros(4, 3), None, 4)


def test_users_loss_that_returns_no_tensor_is_refused() -> None:
    """A number or a tuple is not one loss a sample."""
    loss = resolve_loss(lambda outputs, labels: 0.5)  # type: ignore[arg-type,return-value]

    with pytest.raises(ModelError, match="returned float"):
        loss.per_sample(torch.zeros(4, 3), None, 4)
