"""Every built-in loss through the deduplicator: labels of its own form, vectors that company does not change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dugs_stream import Deduplicator, ModelError, Verdict

N, LENGTH, WIDTH, CLASSES = 6, 5, 8, 4


class PerToken(nn.Module):
    """Logits (n, t, classes) for ids (n, t), in an object as Hugging Face's models give them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(CLASSES, WIDTH)
        self.hidden = nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> dict[str, Tensor]:
        """Each token by itself, and the tokens before it."""
        hidden = self.words(input_ids)
        return {"logits": self.head(self.hidden(hidden.cumsum(dim=1)).tanh())}


def rows() -> Tensor:
    return torch.randn(N, WIDTH, generator=torch.Generator().manual_seed(1))


def pictures() -> Tensor:
    return torch.randn(N, 3, 4, 4, generator=torch.Generator().manual_seed(1))


def texts() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(CLASSES, (N, LENGTH), generator=generator)
    return {
        "input_ids": ids,
        "attention_mask": (torch.arange(LENGTH) < torch.tensor([5, 4, 3, 5, 2, 5])[:, None]).long(),
    }


def dense() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(WIDTH, 9), nn.Tanh(), nn.Linear(9, CLASSES))


def per_pixel() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.Tanh(), nn.Conv2d(6, CLASSES, 1))


LABELS = torch.arange(N) % CLASSES
CASES: dict[str, tuple[Any, Any, Any]] = {
    "label": (dense, rows, LABELS.tolist()),
    "pseudo": (dense, rows, None),
    "energy": (dense, rows, None),
    "entropy": (dense, rows, None),
    "soft_label": (dense, rows, torch.rand(N, CLASSES).softmax(dim=1)),
    "multi_label": (dense, rows, [[True, False, True, False]] * N),
    "regression": (dense, rows, torch.randn(N, CLASSES).tolist()),
    "causal_lm": (PerToken, texts, None),
    "causal_lm_sum": (PerToken, texts, None),
    "masked_lm": (PerToken, texts, None),
    "token_classification": (PerToken, texts, LABELS[:, None].expand(N, LENGTH).numpy()),
    "segmentation": (per_pixel, pictures, LABELS[:, None, None].expand(N, 4, 4)),
}


@pytest.mark.parametrize("name", CASES)
def test_gradient_is_autograds_and_the_same_in_any_company(name: str) -> None:
    """The probe holds it against autograd; a sample alone has the bits that it has among others."""
    build, inputs, labels = CASES[name]
    engine = Deduplicator(build(), 2, loss=name, dimension=64, tile=4)
    given = inputs()
    found = engine.project(given, labels)

    assert max(layer.difference for layer in engine.chosen_layers) < 1e-5
    assert (found.norms > 0).all()
    for at in (1, N - 1):
        one = (
            {key: leaf[at : at + 1] for key, leaf in given.items()}
            if isinstance(given, dict)
            else given[at : at + 1]
        )
        alone = engine.project(one, None if labels is None else labels[at : at + 1])
        assert np.array_equal(alone.vectors[0], found.vectors[at])


class Prototypes(nn.Module):
    """Logits by distance from a row for each class: a layer of no kind with a fast path."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(CLASSES, 9, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: Tensor) -> Tensor:
        """(n, 9) → (n, classes)."""
        return -torch.cdist(x, self.weight)


class OneByOne(nn.Module):
    """Samples are looped over, so that the whole loss runs back for each."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = dense()

    def forward(self, x: Tensor) -> Tensor:
        """(n, width) → (n, classes)."""
        return torch.cat([self.inner(row[None]) for row in x])


def with_prototypes() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(WIDTH, 9), nn.Tanh(), Prototypes())


@pytest.mark.filterwarnings("ignore:The model calls its layers another number of times")
@pytest.mark.parametrize(
    ("build", "paths"), [(dense, {"fast"}), (with_prototypes, {"fast", "slow"}), (OneByOne, {"whole"})]
)
def test_temperature_reaches_the_gradient_on_every_path(build: Any, paths: set[str]) -> None:
    """Each layer's gradient is autograd's of −T·log Σ exp(logits / T) in plain words, at T = 2 and not at 1."""

    def plain(outputs: Tensor, _labels: Tensor | None) -> Tensor:
        return -2 * (outputs.double() / 2).exp().sum(dim=1).log()

    model = build()
    engine = Deduplicator(model, 2, loss="energy", dimension=4096, tile=4, temperature=2)
    found = engine.project(rows())
    formed = []
    for row in rows():
        loss = plain(model(row[None]), None)
        formed.append(
            torch.cat([each.flatten() for each in torch.autograd.grad(loss.sum(), list(model.parameters()))])
        )
    exact = nn.functional.normalize(torch.stack(formed).double(), dim=1)
    same = Deduplicator(model, 2, loss=plain, dimension=4096, tile=4).project(rows())
    other = Deduplicator(model, 2, loss="energy", dimension=4096, tile=4).project(rows())

    assert {layer.path for layer in engine.chosen_layers} == paths
    assert max(layer.difference for layer in engine.chosen_layers) < 1e-5
    assert np.allclose(found.vectors, same.vectors, atol=1e-6)
    assert np.abs(found.vectors @ found.vectors.T - (exact @ exact.T).numpy()).max() < 0.05
    assert np.abs(found.vectors - other.vectors).max() > 1e-3


def test_prompt_and_padding_give_no_gradient() -> None:
    """A text whose labels hide everything has nothing to learn; padding of other ids changes no bit."""
    given, engine = texts(), Deduplicator(PerToken(), 2, loss="causal_lm", dimension=64, tile=4)
    other = dict(given, input_ids=torch.where(given["attention_mask"] == 1, given["input_ids"], 3))
    assert np.array_equal(engine.project(given).vectors, engine.project(other).vectors)

    labels = given["input_ids"].clone()
    labels[2] = -100
    decisions = engine.offer(given, labels)
    assert decisions[2].verdict is Verdict.NO_GRADIENT
    assert decisions[0].verdict is Verdict.UNIQUE


@pytest.mark.parametrize(
    ("loss", "labels", "error", "words"),
    [
        ("token_classification", None, ValueError, "needs labels"),
        ("token_classification", [[1, 2], [1]] * 3, ValueError, "lists of different lengths"),
        ("token_classification", [[0.5] * LENGTH] * N, TypeError, "class numbers"),
        ("token_classification", [[9] * LENGTH] * N, ModelError, "label 9, expected 0 to 3"),
        ("label", [[1]] * N, ValueError, r"labels have shape \(6, 1\), expected \(6,\)"),
        ("regression", [[1.0]], ValueError, r"expected \(6, …\)"),
    ],
)
def test_labels_of_another_form_are_refused(
    loss: str, labels: Any, error: type[Exception], words: str
) -> None:
    """Before the model sees them where their form is known, else by the loss."""
    with pytest.raises(error, match=words):
        Deduplicator(PerToken(), 2, loss=loss, dimension=64).project(texts(), labels)


def test_users_loss_may_take_labels_of_any_shape_and_the_inputs() -> None:
    """As a loss over weights that come with the sample does."""

    def weighted(outputs: dict[str, Tensor], labels: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        weights = inputs["attention_mask"].float()
        return (outputs["logits"].square().sum(2) * labels[:, 0, :1] * weights).mean(dim=1)

    engine = Deduplicator(PerToken(), 2, loss=weighted, dimension=64, tile=4)
    found = engine.project(texts(), torch.rand(N, 1, 2))
    assert (found.norms > 0).all()
    assert max(layer.difference for layer in engine.chosen_layers) < 1e-5


def test_one_sample_of_which_the_loss_is_nan_is_rejected_alone() -> None:
    """The others have the vectors that they have without it."""
    labels = torch.ones(N, CLASSES)
    whole = Deduplicator(dense(), 2, loss="regression", dimension=64).project(rows(), labels)
    labels[3] = torch.nan
    engine = Deduplicator(dense(), 2, loss="regression", dimension=64)
    decisions = engine.offer(rows(), labels)

    assert [decision.verdict is Verdict.REJECTED for decision in decisions] == [at == 3 for at in range(N)]
    again = engine.project(rows(), labels).vectors
    assert np.array_equal(np.delete(again, 3, axis=0), np.delete(whole.vectors, 3, axis=0))
