"""Examples of a category: its medoid, its most typical members, and those at the edge to another category.

The medoid, the member of highest mean cosine to all members, is the member nearest to the centre: the mean of its cosines
is its product with the mean of the members, which points where the centre does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dugs_stream.lab.clusters.assignment import NO_OTHER, Assignment


@dataclass(frozen=True, slots=True)
class Chosen:
    """Sequence numbers: the medoid, then typical members by falling similarity, then edges by rising margin."""

    medoid: int
    typical: Sequence[int]
    edges: Sequence[int]

    @property
    def all(self) -> list[int]:
        """Each of them."""
        return [self.medoid, *self.typical, *self.edges]


def choose_examples(assignment: Assignment, typical: int, edges: int) -> list[Chosen]:
    """The examples of each category, in order of the categories; no member is shown twice."""
    order = np.argsort(assignment.category, kind="stable")
    members = np.split(order, np.cumsum(assignment.sizes)[:-1])
    return [_of(assignment, each, typical, edges) for each in members]


def _of(assignment: Assignment, members: NDArray[np.int64], typical: int, edges: int) -> Chosen:
    by_similarity = members[np.argsort(-assignment.similarity[members], kind="stable")]
    medoid, centre = int(by_similarity[0]), by_similarity[1 : 1 + typical]
    rest = members[~np.isin(members, by_similarity[: 1 + typical])]
    rest = rest[assignment.other[rest] != NO_OTHER]
    margin = assignment.similarity[rest] - assignment.other_similarity[rest]
    edge = rest[np.argsort(margin, kind="stable")[:edges]]
    return Chosen(medoid, centre.tolist(), edge.tolist())
