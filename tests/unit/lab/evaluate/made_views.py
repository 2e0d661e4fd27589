"""Views for tests: clusters of unit rows, one a class, as gradients and embeddings alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dugs_stream.lab.evaluate.evaluate import Viewed
from dugs_stream.lab.evaluate.greedy import unit_rows
from dugs_stream.lab.evaluate.plan import Gradient
from dugs_stream.lab.evaluate.views import UNLABELLED, Kind, Views

GRADIENT = Gradient("label", 2)


def class_rows(labels: NDArray[np.int64], *, spread: float = 0.3, seed: int = 0) -> NDArray[np.float32]:
    """(n, 16) unit rows around one axis a class."""
    generator = np.random.default_rng(seed)
    axes = np.eye(16)[labels % 16]
    noise = generator.normal(size=(len(labels), 16)) * spread / 4
    return unit_rows((axes + noise).astype(np.float32))


def made_views(
    records: int = 120,
    classes: int = 4,
    *,
    labelled: bool = True,
    rows: NDArray[np.float32] | None = None,
    logits: bool = True,
) -> Views:
    """So many records, each fourth of them with a row of a wrong label behind."""
    own = np.arange(records) % classes
    wrong = np.arange(0, records, 4)[: None if labelled else 0]
    labels = np.concatenate([own, (own[wrong] + 1) % max(classes, 2)])
    embeddings = class_rows(np.concatenate([own, own[wrong]])) if rows is None else rows[: len(labels)]
    gradients = class_rows(labels) if rows is None else embeddings
    if not labelled:
        labels = np.full_like(labels, UNLABELLED)
    return Views(
        labels=labels,
        origin=np.concatenate([np.arange(records), wrong]),
        kind=np.array([Kind.RECORD] * records + [Kind.WRONG_LABEL] * len(wrong)),
        copied_by=np.full(len(labels), -1),
        ways=(),
        gradients={GRADIENT: gradients},
        embeddings=embeddings,
        logits=8.0 * embeddings[:, : max(classes, 2)].astype(np.float64) if logits else None,
    )


def viewed(views: Views, place: str = "made") -> Viewed:
    """The views as an evaluation takes them; class 2 is called c2."""
    return Viewed(place, views, lambda number: f"c{number}", 16, 0.3, "label, last 2")


def with_copies(views: Views, noise: float) -> Views:
    """The views with an exact and a near copy of each of the first ten records."""
    generator = np.random.default_rng(9)
    near = views.gradients[GRADIENT][:10] + generator.normal(size=(10, 16)).astype(np.float32) * noise
    rows = np.concatenate([views.gradients[GRADIENT][:10], unit_rows(near)])
    first = np.tile(np.arange(10), 2)
    return Views(
        labels=np.concatenate([views.labels, views.labels[first]]),
        origin=np.concatenate([views.origin, first]),
        kind=np.concatenate([views.kind, np.full(20, Kind.COPY)]),
        copied_by=np.concatenate([views.copied_by, np.repeat([0, 1], 10)]),
        ways=("exact", "near"),
        gradients={GRADIENT: np.concatenate([views.gradients[GRADIENT], rows])},
        embeddings=None,
        logits=None,
    )
