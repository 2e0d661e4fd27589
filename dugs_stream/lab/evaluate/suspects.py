"""Suspects: records whose label is perhaps wrong, since the model is confident of another class and they lie nearer to it.

A wrong label looks new to a rule that sees labels. This reading of the same numbers tells such a record from a rare one: of a
rare class the model is not confident, and the record is not among those of another class.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dugs_stream.lab.evaluate.views import UNLABELLED, Views

CONFIDENT = 0.9
"""The least probability of the other class."""


def suspects_among(views: Views, rows: NDArray[np.int64]) -> NDArray[np.bool_] | None:
    """(m,) which of these rows are suspect; None without labels, logits of classes, or embeddings.

    A class's centre is the mean embedding of the rows that carry its label, right or wrong, and a class without any has none:
    nothing is near it.
    """
    if views.logits is None or views.embeddings is None or np.any(views.labels[rows] == UNLABELLED):
        return None
    labels, embeddings = views.labels[rows], views.embeddings[rows]
    shifted = views.logits[rows] - views.logits[rows].max(axis=1, keepdims=True)
    shares = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    predicted = shares.argmax(axis=1)
    centres = np.zeros((shares.shape[1], embeddings.shape[1]), dtype=np.float64)
    np.add.at(centres, labels, embeddings)
    norms = np.linalg.norm(centres, axis=1, keepdims=True)
    nearness = embeddings @ np.where(norms > 0, centres / np.where(norms > 0, norms, 1), 0).T  # (m, classes)
    each = np.arange(len(rows))
    is_nearer = nearness[each, predicted] > nearness[each, labels]
    return np.asarray((predicted != labels) & (shares.max(axis=1) >= CONFIDENT) & is_nearer)
