"""Measures of picks: classes covered, rare records found, wrong labels picked, and accuracy of a classifier trained on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from dugs_stream.lab.evaluate.single_thread import single_thread
from dugs_stream.lab.evaluate.streams import Stream
from dugs_stream.lab.evaluate.views import UNLABELLED, Views

_LEAST_CLASSES = 2
_LEVEL = 0.975
"""Of Student's t: both sides together leave 5 %."""


class Interval(NamedTuple):
    """Mean over draws, and its 95 % interval."""

    mean: float
    low: float
    high: float


def interval_of(values: Sequence[float]) -> Interval:
    """Of shares, by Student's t, cut at 0 and 1; of a single value, or of equal ones, the interval is the value."""
    from scipy.stats import t  # noqa: PLC0415  it comes with scikit-learn, an optional extra

    found = np.asarray(values, dtype=np.float64)
    mean = float(found.mean())
    if len(found) < 2 or not found.std():  # noqa: PLR2004  a spread needs two
        return Interval(mean, mean, mean)
    half = float(t.ppf(_LEVEL, len(found) - 1)) * float(found.std(ddof=1)) / len(found) ** 0.5
    return Interval(mean, max(0.0, mean - half), min(1.0, mean + half))


def classes_covered(views: Views, stream: Stream, picks: NDArray[np.int64]) -> float:
    """The share of the stream's classes of which a record was picked."""
    labels = views.labels[stream.rows]
    return len(np.unique(labels[picks])) / len(np.unique(labels))


def marked_found(stream: Stream, picks: NDArray[np.int64]) -> float:
    """The share of the marked records that were picked."""
    return float(stream.marked[picks].sum()) / float(stream.marked.sum())


def marked_among(stream: Stream, picks: NDArray[np.int64]) -> float:
    """The share of the picks that are marked; 0 of none."""
    return float(stream.marked[picks].mean()) if len(picks) else 0.0


class Learner(Protocol):
    """Learns from picks."""

    def accuracy(self, rows: NDArray[np.int64], /) -> float:
        """On the records held out, after training on these rows of the views."""


class LinearProbe:
    """Logistic regression on embeddings (N, d), trained on picks and tested on the records held out."""

    def __init__(
        self, embeddings: NDArray[np.float32], labels: NDArray[np.int64], held_out: NDArray[np.int64]
    ) -> None:
        self._embeddings, self._labels, self._held_out = embeddings, labels, held_out

    def accuracy(self, rows: NDArray[np.int64]) -> float:
        """On the records held out, after training on these rows; a single class is predicted for all, of no row nothing is right."""
        from sklearn.linear_model import LogisticRegression  # noqa: PLC0415  an optional extra

        wanted = self._labels[self._held_out]
        labels = self._labels[rows]
        if len(np.unique(labels)) < _LEAST_CLASSES:
            return float((wanted == labels[0]).mean()) if len(labels) else 0.0
        # Unit rows are short beside what the default penalty expects.
        model = LogisticRegression(C=100.0, max_iter=300, tol=1e-3)
        with single_thread():
            model.fit(self._embeddings[rows], labels)
        return float((model.predict(self._embeddings[self._held_out]) == wanted).mean())


def linear_probe(views: Views, held_out: NDArray[np.int64]) -> LinearProbe | None:
    """None without embeddings, without labels, or with nothing held out."""
    labelled = len(held_out) and np.all(views.labels[held_out] != UNLABELLED)
    if views.embeddings is None or not labelled:
        return None
    return LinearProbe(views.embeddings, views.labels, held_out)
