"""Losses of a class or of numbers a sample: their gradients, their labels, their refusals."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from dugs_stream.core.losses.classes import (
    binary_cross_entropy,
    cross_entropy,
    predicted_labels,
    soft_cross_entropy,
    squared_error,
)
from dugs_stream.core.losses.forms import BUILT_IN, labels_of
from dugs_stream.core.losses.outputs import logits_of
from dugs_stream.core.losses.registry import resolve_loss
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


@pytest.mark.parametrize("outputs", [torch.zeros(4), torch.zeros(4, 3, 2)])
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
        loss.per_sample(torch.zeros(4, 3), None, torch.zeros(4), 4)


def test_users_loss_that_returns_no_tensor_is_refused() -> None:
    """A number or a tuple is not one loss a sample."""
    loss = resolve_loss(lambda outputs, labels: 0.5)  # type: ignore[arg-type,return-value]

    with pytest.raises(ModelError, match="returned float"):
        loss.per_sample(torch.zeros(4, 3), None, torch.zeros(4), 4)


@pytest.mark.parametrize("wrap", [lambda z: z, lambda z: (torch.zeros(3, dtype=torch.int64), z), lambda z: {"a": 1, "logits": z, "b": z * 0}, lambda z: SimpleNamespace(logits=z), lambda z: {"out": z}])  # fmt: skip
def test_logits_are_found_in_what_models_return(wrap: Any) -> None:
    """A tensor, the first floating-point one of a tuple or mapping, or what is called logits."""
    logits = torch.randn(3, 4)

    assert logits_of(wrap(logits)) is logits


@pytest.mark.parametrize(
    "outputs", [(), None, {"ids": torch.zeros(3, dtype=torch.int64)}, SimpleNamespace(loss=1.0)]
)
def test_outputs_without_logits_are_refused(outputs: Any) -> None:
    """By their type."""
    with pytest.raises(ModelError, match=f"returned {type(outputs).__name__} without logits"):
        logits_of(outputs)


def test_outputs_that_are_not_batch_first_are_refused() -> None:
    """With the axis on which the samples seem to be."""
    with pytest.raises(
        ModelError, match=r"\(5, 3\) for 3 samples, expected the samples on the first axis \(axis 1"
    ):
        resolve_loss("label").per_sample(torch.zeros(5, 3), torch.zeros(3), torch.zeros(3, 2), 3)


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_soft_labels_have_autograds_gradient(scale: float) -> None:
    """Of −Σ share · log softmax; a share of 1 is the class itself, however sure the model is."""
    generator = torch.Generator().manual_seed(2)
    logits = (scale * torch.randn(4, 5, generator=generator, dtype=torch.float64)).requires_grad_()
    shares = torch.rand(4, 5, generator=generator).softmax(dim=1)
    found = soft_cross_entropy(logits, shares, logits)
    plain = -(shares.double() * logits.log_softmax(dim=1)).sum(dim=1)

    assert torch.allclose(found, plain)
    wanted = torch.autograd.grad(plain.sum(), logits)[0]
    # The plain one takes the shares' sum for 1, which float32 misses by some 1e-8.
    assert torch.allclose(torch.autograd.grad(found.sum(), logits)[0], wanted, atol=1e-6)
    hard = functional.one_hot(torch.tensor([0, 4, 2, 1]), 5)
    ours = torch.autograd.grad(soft_cross_entropy(logits, hard, logits).sum(), logits)[0]
    own = torch.autograd.grad(cross_entropy(logits, hard.argmax(dim=1)).sum(), logits)[0]
    assert torch.allclose(ours, own, rtol=1e-9, atol=1e-300)


def test_several_labels_and_numbers_have_the_plain_formulas() -> None:
    """Binary cross entropy, mean over labels; squared error, mean over outputs; both one a sample."""
    outputs, rows = torch.randn(4, 3), torch.rand(4, 3).round()
    bce = functional.binary_cross_entropy_with_logits(outputs.double(), rows.double(), reduction="none").mean(
        dim=1
    )

    assert torch.allclose(binary_cross_entropy(outputs, rows.bool(), outputs), bce)
    squares = ((outputs.double() - rows) ** 2).mean(dim=1)
    assert torch.allclose(squared_error({"logits": outputs}, rows, outputs), squares)
    column = squared_error(outputs[:, :1], rows[:, 0], outputs)
    assert torch.equal(column, squared_error(outputs[:, 0], rows[:, 0], outputs))
    assert column.shape == (4,)


@pytest.mark.parametrize(
    ("loss", "labels", "words"),
    [
        ("soft_label", torch.tensor([[0.5, 0.6]]), "add to 1"),
        ("soft_label", torch.tensor([[1.5, -0.5]]), "0 or more"),
        ("multi_label", torch.tensor([[0.0, 2.0]]), "outside 0 … 1"),
        ("multi_label", torch.tensor([[0.0, float("nan")]]), "outside 0 … 1"),
        ("regression", torch.zeros(1, 3), r"shape \(1, 3\), the outputs \(1, 2\)"),
        ("soft_label", None, "found None"),
        ("multi_label", torch.zeros(2), "samples on the first axis"),
    ],
)
def test_labels_that_cannot_be_meant_are_refused(loss: str, labels: Tensor | None, words: str) -> None:
    """In words of the loss."""
    with pytest.raises(ModelError, match=words):
        resolve_loss(loss).per_sample(torch.zeros(1, 2), labels, torch.zeros(1, 2), 1)


def test_users_loss_is_given_the_inputs_if_it_asks_for_them() -> None:
    """By a third argument that it needs, or that has their name; others keep their own default."""
    outputs, inputs = torch.ones(2, 1), torch.tensor([[3.0], [5.0]])

    def three(outputs: Tensor, labels: Tensor | None, inputs: Tensor) -> Tensor:
        return (outputs * inputs)[:, 0]

    def named(outputs: Tensor, labels: Tensor | None, inputs: Tensor | None = None) -> Tensor:
        return three(outputs, labels, inputs)  # type: ignore[arg-type]

    def two(outputs: Tensor, labels: Tensor | None, weight: float = 2.0) -> Tensor:
        return outputs[:, 0] * weight

    for loss, expected in ((three, [3, 5]), (named, [3, 5]), (two, [2, 2])):
        assert resolve_loss(loss).per_sample(outputs, None, inputs, 2).tolist() == expected


def test_every_name_has_a_function() -> None:
    """What settings accept can be resolved."""
    for name in BUILT_IN:
        loss = resolve_loss(name)
        assert (loss.name, loss.form, loss.are_required) == (name, *labels_of(name))
