"""Losses over positions: held to the plain formula in float64, one sample at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from dugs_stream.core.losses import positions
from dugs_stream.core.losses.positions import (
    causal_lm,
    causal_lm_sum,
    masked_lm,
    segmentation,
    token_classification,
)
from dugs_stream.errors import LabelError, ModelError, SampleError


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def numbers(high: int, *shape: int, seed: int = 0) -> Tensor:
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed))


def with_gradient(loss: Callable[[Tensor], Tensor], logits: Tensor) -> tuple[Tensor, Tensor]:
    leaf = logits.detach().clone().requires_grad_()
    losses = loss(leaf)
    (gradient,) = torch.autograd.grad(losses.sum(), leaf)
    return losses.detach(), gradient


def plain(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over the labelled rows of one sample, logits (t, v) in float64."""
    kept = labels != -100
    return (
        functional.cross_entropy(logits.double()[kept], labels[kept])
        if kept.any()
        else logits.double().sum() * 0
    )


@settings(max_examples=25, deadline=None)
@given(
    m=st.integers(1, 4),
    t=st.integers(1, 7),
    v=st.integers(2, 19),
    seed=st.integers(0, 9),
    chunk=st.integers(1, 200),
)
def test_causal_lm_is_the_mean_over_the_following_tokens(
    m: int, t: int, v: int, seed: int, chunk: int
) -> None:
    """Padding out, whichever way the rows are cut into chunks."""
    logits, ids = drawn(m, t, v, seed=seed), numbers(v, m, t, seed=seed)
    lengths = 1 + numbers(t, m, 1, seed=seed + 1)
    mask = torch.arange(t) < lengths
    inputs = {"attention_mask": mask.long(), "input_ids": ids}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(positions._CHUNK, "cpu", chunk)
        losses, gradient = with_gradient(lambda leaf: causal_lm(leaf, None, inputs), logits)
    for at in range(m):
        n = int(lengths[at])
        expected, own = with_gradient(lambda leaf, at=at, n=n: plain(leaf[: n - 1], ids[at, 1:n]), logits[at])
        assert torch.allclose(losses[at].double(), expected, rtol=1e-5, atol=1e-6)
        assert torch.allclose(gradient[at], own, rtol=1e-4, atol=1e-7)
        assert not gradient[at, n - 1 :].any(), "neither the last token nor padding has anything to predict"


def test_causal_lm_takes_ids_alone_labels_and_the_sum() -> None:
    """Ids as the whole sample; labels hide a prompt; the sum is the mean times the tokens."""
    logits, ids = drawn(2, 5, 7), numbers(7, 2, 5)
    labels = ids.clone()
    labels[0, :3] = -100
    mean, _ = with_gradient(lambda leaf: causal_lm(leaf, labels, ids), logits)
    total, _ = with_gradient(lambda leaf: causal_lm_sum(leaf, labels, ids), logits)

    assert torch.allclose(causal_lm(logits, None, ids)[1], mean[1])
    assert torch.allclose(mean[0].double(), plain(logits[0, 2:4], ids[0, 3:]))
    assert torch.allclose(total, mean * torch.tensor([2, 4]))
    assert torch.equal(causal_lm(logits, None, (ids, drawn(2))), causal_lm(logits, None, ids))


def test_left_padding_predicts_no_first_token() -> None:
    """What stands before a text says nothing about its first token."""
    logits, ids = drawn(1, 6, 5), numbers(5, 1, 6)
    inputs = {"ids": ids, "mask": torch.tensor([[0, 0, 1, 1, 1, 1]])}

    assert torch.allclose(causal_lm(logits, None, inputs)[0].double(), plain(logits[0, 2:5], ids[0, 3:]))


@pytest.mark.parametrize("loss", [masked_lm, token_classification])
def test_token_losses_are_means_over_labelled_tokens(loss: Any) -> None:
    """Labels of −100 and padding are left out."""
    logits, labels = drawn(3, 5, 4), numbers(4, 3, 5)
    labels[1, 2:] = -100
    inputs = {
        "input_ids": numbers(4, 3, 5),
        "attention_mask": torch.tensor([[1] * 5, [1] * 5, [1] * 2 + [0] * 3]),
    }
    losses, gradient = with_gradient(lambda leaf: loss(leaf, labels, inputs), logits)
    for at, n in enumerate((5, 2, 2)):
        expected, own = with_gradient(lambda leaf, at=at, n=n: plain(leaf[:n], labels[at, :n]), logits[at])
        assert torch.allclose(losses[at].double(), expected)
        assert torch.allclose(gradient[at], own, atol=1e-7)


def test_masked_lm_without_labels_predicts_each_token_where_it_stands() -> None:
    """As the tokens of its training do that were left unchanged."""
    logits, ids = drawn(2, 4, 6), numbers(6, 2, 4)
    inputs = {"input_ids": ids, "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])}

    assert torch.allclose(masked_lm(logits, None, inputs)[1].double(), plain(logits[1, :2], ids[1, :2]))


@pytest.mark.parametrize("size", [(4, 6), (2, 3)])
def test_segmentation_is_the_mean_over_labelled_pixels(size: tuple[int, int]) -> None:
    """Void pixels out, as −100 or 255; logits of a smaller picture are enlarged to the labels."""
    logits, labels = drawn(2, 3, *size), numbers(3, 2, 4, 6)
    labels[0, 0], labels[1, :2] = 255, -100
    pictures = torch.zeros(2, 3, 4, 6)
    losses, gradient = with_gradient(lambda leaf: segmentation({"out": leaf}, labels, pictures), logits)
    ignored = torch.where(labels == 255, -100, labels)

    def expected(leaf: Tensor, at: int) -> Tensor:
        large = functional.interpolate(
            leaf[None].double(), size=(4, 6), mode="bilinear", align_corners=False
        )[0]
        return plain(large.permute(1, 2, 0).flatten(0, 1), ignored[at].flatten())

    for at in range(2):
        loss, own = with_gradient(lambda leaf, at=at: expected(leaf, at), logits[at])
        assert torch.allclose(losses[at].double(), loss)
        assert torch.allclose(gradient[at], own, atol=1e-7)


@pytest.mark.parametrize("margin", [10.0, 25.0, 60.0])
def test_gradient_keeps_its_direction_where_the_model_is_sure(margin: float) -> None:
    """From 1e-4 down to 1e-26 in float32, beside a sample that the model gets all wrong."""
    logits = torch.tensor([[[margin, 1.0, 0.0, -1.0]] * 2, [[0.0, 9.0, 9.0, 9.0]] * 2])
    ids = torch.zeros(2, 2, dtype=torch.int64)
    _, found = with_gradient(lambda leaf: causal_lm(leaf, None, ids), logits)
    others = logits[0, 0, 1:].double().exp()
    expected = torch.cat([-others.sum()[None], others]) / logits[0, 0].double().exp().sum()

    assert torch.allclose(
        found[0, 0].double() / expected.norm(), expected / expected.norm(), rtol=0, atol=1e-6
    )


def test_half_precision_is_computed_in_float32() -> None:
    """The loss is as exact as the logits are, the gradient comes back in their dtype."""
    logits, ids = drawn(2, 4, 6).bfloat16(), numbers(6, 2, 4)
    losses, gradient = with_gradient(lambda leaf: causal_lm(leaf, None, ids), logits)
    wide, own = with_gradient(lambda leaf: causal_lm(leaf, None, ids), logits.float())

    assert gradient.dtype == torch.bfloat16
    assert torch.equal(losses, wide)
    assert torch.equal(gradient, own.bfloat16())


def test_what_is_not_finite_stays_with_its_sample() -> None:
    """NaN logits of one sample are nothing to the others; those of padding are nothing at all."""
    logits, ids = drawn(3, 4, 5), numbers(5, 3, 4)
    broken = logits.clone()
    broken[1], broken[2, 2:] = torch.nan, torch.inf
    inputs = {"input_ids": ids, "attention_mask": torch.tensor([[1] * 4, [1] * 4, [1, 1, 0, 0]])}
    losses, gradient = with_gradient(lambda leaf: causal_lm(leaf, None, inputs), broken)
    wanted, own = with_gradient(lambda leaf: causal_lm(leaf, None, inputs), logits)

    assert losses[1].isnan()
    assert torch.equal(losses[[0, 2]], wanted[[0, 2]])
    assert torch.equal(gradient[[0, 2]], own[[0, 2]])


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: causal_lm(drawn(2, 3, 5), numbers(5, 2, 3) + 3, drawn(2)),
            LabelError,
            "expected 0 to 4, or -100",
        ),
        (lambda: causal_lm(drawn(2, 3, 5), -numbers(9, 2, 3) - 1, drawn(2)), LabelError, "label -"),
        (lambda: causal_lm(drawn(2, 3, 5), None, drawn(2, 3)), SampleError, "name it input_ids"),
        (
            lambda: causal_lm(drawn(2, 3, 5), None, {"a": numbers(5, 2, 3), "b": numbers(5, 2, 3)}),
            SampleError,
            r"not clear \(a, b\)",
        ),
        (
            lambda: causal_lm(drawn(2, 4, 5), None, numbers(5, 2, 3)),
            SampleError,
            r"labels have shape \(2, 3\)",
        ),
        (lambda: causal_lm(drawn(2, 5), None, numbers(5, 2, 3)), SampleError, r"\(n, tokens, classes\)"),
        (
            lambda: causal_lm(drawn(3, 2, 5), None, numbers(5, 2, 3)),
            ModelError,
            r"first axis \(axis 1 is as long\)",
        ),
        (lambda: token_classification(drawn(2, 3, 5), None, numbers(5, 2, 3)), ModelError, "found None"),
        (lambda: token_classification(drawn(2, 3, 5), drawn(2, 3), drawn(2)), LabelError, "torch.float32"),
        (lambda: segmentation(drawn(2, 3, 4, 4), numbers(3, 2, 4), drawn(2)), SampleError, "height, width"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    call: Callable[[], Tensor], error: type[Exception], words: str
) -> None:
    """With what was found and what was expected."""
    with pytest.raises(error, match=words):
        call()
