"""Candidates of an evaluation: each selection by its row's name, made from the views when its turn comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dugs_stream.lab.evaluate.plan import Gradient
from dugs_stream.lab.evaluate.selections import (
    GreedyUniques,
    GssGreedy,
    KCenterGreedy,
    Ranking,
    Selection,
    SemDeDup,
    random_pick,
    reservoir,
)
from dugs_stream.lab.evaluate.views import UNLABELLED, Views

RANDOM = "random"
RANDOM_REPEATS = 20
"""Random picks of each stream: their mean is one draw's value."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A selection to be measured.

    make     None if it cannot be had of these views
    missing  why
    repeats  picks of each stream, whose mean is the stream's value
    """

    name: str
    make: Callable[[], Selection] | None
    missing: str | None = None
    repeats: int = 1


def candidates_of(views: Views) -> Iterator[Candidate]:
    """In the order of the table: gradients, embeddings, logits alone, and what knows nothing of the model."""
    for gradient, vectors in views.gradients.items():
        yield _of(str(gradient), lambda vectors=vectors: GreedyUniques(vectors))  # type: ignore[misc]
    gss = _gss_vectors(views)
    yield _of("GSS-Greedy", None if gss is None else lambda: GssGreedy(gss), "it needs a gradient")
    rows, why = views.embeddings, "the model's last layer has no input of one vector a record"
    yield _of("embedding, same rule", None if rows is None else lambda: GreedyUniques(rows), why)
    yield _of("SemDeDup", None if rows is None else lambda: SemDeDup(rows), why)
    yield _of("k-center greedy", None if rows is None else lambda: KCenterGreedy(rows), why)
    losses, entropies = given_losses(views), entropies_of(views)
    yield _ranking("highest loss", losses, "it needs labels and logits of classes")
    yield _ranking("highest entropy", entropies, "it needs logits of classes")
    yield Candidate("reservoir", lambda: reservoir, repeats=RANDOM_REPEATS)
    yield Candidate(RANDOM, lambda: random_pick, repeats=RANDOM_REPEATS)


def _of(name: str, make: Callable[[], Selection] | None, missing: str | None = None) -> Candidate:
    return Candidate(name, make, missing if make is None else None)


def _ranking(name: str, scores: NDArray[np.float64] | None, missing: str) -> Candidate:
    if scores is None:
        return Candidate(name, None, missing)
    return Candidate(name, lambda: Ranking(scores))


def _gss_vectors(views: Views) -> NDArray[np.float32] | None:
    """The gradients that the paper takes, of the whole model by the given labels, or the nearest to it there are."""
    plain = [each for each in views.gradients if each.scaling == "plain"]
    best = max(plain, key=_likeness_to_gss, default=None)
    return None if best is None else views.gradients[best]


def _likeness_to_gss(gradient: Gradient) -> tuple[bool, float]:
    layers = float(gradient.layers) if isinstance(gradient.layers, int) else float("inf")
    return gradient.loss == "label", layers


def given_losses(views: Views) -> NDArray[np.float64] | None:
    """(N,) cross entropy of each row's own label."""
    if views.logits is None or not np.all(views.labels != UNLABELLED):
        return None
    own = _log_shares(views.logits)[np.arange(len(views.labels)), views.labels]
    return np.asarray(-own)


def entropies_of(views: Views) -> NDArray[np.float64] | None:
    """(N,) entropy of what the model predicts, in nats."""
    if views.logits is None:
        return None
    logs = _log_shares(views.logits)
    return np.asarray(-(np.exp(logs) * logs).sum(axis=1))


def _log_shares(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))
