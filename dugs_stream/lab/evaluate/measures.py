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
    """Of independent shares, by Student's t, cut at 0 and 1; of a single value, or of equal ones, the interval is the value."""
    from scipy.stats import t  # noqa: PLC0415  it comes with scikit-learn, an optional extra

    found = np.asarray(values, dtype=np.float64)
    mean = float(found.mean())
    if len(found) < 2 or not found.std():  # noqa: PLR2004  a spread needs two
        return Interval(mean, mean, mean)
    half = float(t.ppf(_LEVEL, len(found) - 1)) * float(found.std(ddof=1)) / len(found) ** 0.5
    return Interval(mean, max(0.0, mean - half), min(1.0, mean + half))


_LESS_CHANCE, _MORE_CHANCE = 0.75, 2.0
"""What is taken of the chance in `interval_of_pairs`: with 1 and 1 the noise of both estimates leaves 89 % of the truths covered where
the records and chance matter alike; so it is 95 % or more at every ratio of the two, in simulations of 5 and of 10 pairs."""


def interval_of_pairs(values: Sequence[float]) -> Interval:
    """Of shares that come in pairs, each from the two halves of the same records: over those records and over chance.

    The mean over S pairs varies by the records, d, and by chance (order, rare classes, ties), c / S, if c is the variance of a pair's
    mean. A quarter of the mean square difference of the two of a pair is d + c; the means of the pairs, which all have all
    records, vary by c alone. So the variance is (d + c) − ¾c, but not below 0, + 2c / S. By Student's t of S − 1 degrees, cut at 0 and 1.
    A single pair cannot tell the records from chance: all of its difference counts.
    """
    from scipy.stats import t  # noqa: PLC0415  it comes with scikit-learn, an optional extra

    pairs = np.asarray(values, dtype=np.float64).reshape(-1, 2)
    means, mean = pairs.mean(axis=1), float(pairs.mean())
    both = float(np.square(pairs[:, 0] - pairs[:, 1]).mean()) / 4
    chance = float(means.var(ddof=1)) if len(pairs) > 1 else 0.0
    variance = max(0.0, both - _LESS_CHANCE * chance) + _MORE_CHANCE * chance / len(pairs)
    half = float(t.ppf(_LEVEL, max(1, len(pairs) - 1))) * variance**0.5
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

    def accuracy(self, rows: NDArray[np.int64], tested: NDArray[np.int64], /) -> float:
        """On rows of records held out, after training on other rows of the views."""


class LinearProbe:
    """Logistic regression on embeddings (N, d), trained on picks and tested on records held out."""

    def __init__(self, embeddings: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
        self._embeddings, self._labels = embeddings, labels

    def accuracy(self, rows: NDArray[np.int64], tested: NDArray[np.int64]) -> float:
        """See `Learner`; a single class is predicted for all, of no row nothing is right."""
        from sklearn.linear_model import LogisticRegression  # noqa: PLC0415  an optional extra

        wanted = self._labels[tested]
        labels = self._labels[rows]
        if len(np.unique(labels)) < _LEAST_CLASSES:
            return float((wanted == labels[0]).mean()) if len(labels) else 0.0
        # Unit rows are short beside what the default penalty expects.
        model = LogisticRegression(C=100.0, max_iter=300, tol=1e-3)
        with single_thread():
            model.fit(self._embeddings[rows], labels)
        return float((model.predict(self._embeddings[tested]) == wanted).mean())


def linear_probe(views: Views, held_out: NDArray[np.int64]) -> LinearProbe | None:
    """None without embeddings, without labels, or with less held out than a record for each half."""
    labelled = len(held_out) > 1 and np.all(views.labels[held_out] != UNLABELLED)
    if views.embeddings is None or not labelled:
        return None
    return LinearProbe(views.embeddings, views.labels)
