"""Agreement of categories with labels: purity and the adjusted Rand index."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from dugs_stream.lab.clusters.uniques import UNLABELLED, Labels


@dataclass(frozen=True, slots=True)
class Agreement:
    """Categories against the labels of the uniques that have one.

    purity         share of them that carry the most frequent label of their category; 1 is reached by enough categories
    adjusted_rand  1 for equal partitions, about 0 for unrelated ones (Hubert and Arabie, 1985)
    """

    labelled: int
    classes: int
    purity: float
    adjusted_rand: float


def agreement(category: NDArray[np.int32], labels: Labels) -> Agreement | None:
    """None without labels."""
    has_label = labels.of != UNLABELLED
    labelled = int(np.count_nonzero(has_label))
    if not labelled:
        return None
    counts = label_counts(category, labels)
    return Agreement(
        labelled,
        int(np.count_nonzero(counts.sum(axis=0))),
        float(counts.max(axis=1).sum()) / labelled,
        float(adjusted_rand_score(labels.of[has_label], category[has_label])),
    )


def label_counts(category: NDArray[np.int32], labels: Labels) -> NDArray[np.int64]:
    """(categories, labels) how many uniques of each category carry each label."""
    counts = np.zeros((int(category.max(initial=-1)) + 1, len(labels.names)), dtype=np.int64)
    has_label = labels.of != UNLABELLED
    np.add.at(counts, (category[has_label], labels.of[has_label]), 1)
    return counts
