"""Table of thresholds: how many of the records would be uniques at other τ, exact or an estimate.

Exact while there are few enough vectors to keep: the sequential algorithm at each τ. Beyond that an estimate from the
decisions at the one τ in force: a record counts as unique at another τ if its similarity to the list was below that one. But
that list has fewer uniques than the one of a higher τ, and more than the one of a lower τ.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dugs_stream.core.selection import Explain
from dugs_stream.core.thresholds import ManyThresholds
from dugs_stream.records import Decision, Verdict

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
MOST_EXACT = 2_048
"""Vectors of which all pairs are looked at: a second of CPU at k = 2048, and 32 MB."""


@dataclass(frozen=True, slots=True)
class AtThreshold:
    """The uniques that some τ would have kept, of `ThresholdTable.judged` records."""

    threshold: float
    uniques: int
    is_exact: bool


class ThresholdTable:
    """Counts decisions as they are made, and tells the table when all are.

    threshold  the τ in force, which gets a row of its own
    explain    says what similarities mean: under `bound` uniques have none, under `decision` none is of the nearest
    """

    def __init__(
        self, threshold: float, explain: Explain = "nearest", *, most_exact: int = MOST_EXACT
    ) -> None:
        self.threshold = threshold
        self.judged = 0
        self._explain = explain
        self._thresholds = np.array(sorted({*THRESHOLDS, threshold}))
        self._below = np.zeros(len(self._thresholds), np.int64)
        self._uniques = 0
        self._most_exact = most_exact
        self._vectors: list[NDArray[np.float32]] = []

    def take(self, decision: Decision, vector: NDArray[np.float32] | None) -> None:
        """One decision, and the record's vector (k,) float32; those without a direction count for nothing."""
        if decision.verdict not in {Verdict.UNIQUE, Verdict.DUPLICATE} or vector is None:
            return
        self.judged += 1
        self._uniques += decision.verdict is Verdict.UNIQUE
        similarity = -np.inf if decision.similarity is None else decision.similarity
        self._below += similarity < self._thresholds
        if self.judged <= self._most_exact:
            self._vectors.append(vector.copy())
        elif self._vectors:
            self._vectors = []

    def rows(self) -> list[AtThreshold]:
        """One row for each τ of which something can be said, in rising order; the τ in force is always exact."""
        if not self.judged:
            return []
        if self._vectors:
            many = ManyThresholds(np.stack(self._vectors))
            return [
                AtThreshold(each, len(many.uniques(each)), is_exact=True)
                for each in self._thresholds.tolist()
            ]
        return [
            AtThreshold(each, self._uniques, is_exact=True)
            if each == self.threshold
            else AtThreshold(each, int(below), is_exact=False)
            for each, below in zip(self._thresholds.tolist(), self._below, strict=True)
            if each == self.threshold or self._can_tell(each)
        ]

    def _can_tell(self, threshold: float) -> bool:
        if self._explain == "bound":
            return threshold > self.threshold
        return self._explain == "nearest"
