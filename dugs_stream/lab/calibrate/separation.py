"""Separation of labels: how well cosines tell pairs of one label from pairs of two."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dugs_stream.lab.clusters.uniques import UNLABELLED


def separation(vectors: NDArray[np.float32], labels: NDArray[np.int32]) -> float | None:
    """Area under the ROC curve of the cosines of all labelled pairs, same label against another.

    vectors (n, k) unit rows, labels (n,), UNLABELLED for none. 1: each pair of one label is more similar than each of two;
    0.5: no difference. None unless there are pairs of both kinds.
    """
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415  a second's import, which few commands need

    has_label = labels != UNLABELLED
    rows, of = vectors[has_label], labels[has_label]
    first, second = np.triu_indices(len(rows), 1)
    is_same = of[first] == of[second]
    if not is_same.any() or is_same.all():
        return None
    return float(roc_auc_score(is_same, (rows @ rows.T)[first, second]))
