"""Table of thresholds: how many of the records would be uniques at other τ, exact or an estimate.

Exact while there are few enough vectors to keep: the sequential algorithm at each τ. Beyond that some of them, drawn at
random and in a random order, are judged again, and the growth of their list is extrapolated. The similarities of the run itself
would mislead: at a higher τ a record meets a longer list, and 25 times as many as that keeps lie below τ (measured on digits).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dugs_stream.core.thresholds import ManyThresholds, grown
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
    """

    def __init__(self, threshold: float, *, most_exact: int = MOST_EXACT) -> None:
        self.threshold = threshold
        self.judged = 0
        self._thresholds = sorted({*THRESHOLDS, threshold})
        self._uniques = 0
        self._most_exact = most_exact
        self._vectors: list[NDArray[np.float32]] = []
        self._generator = np.random.default_rng(0)

    def take(self, decision: Decision, vector: NDArray[np.float32] | None) -> None:
        """One decision, and the record's vector (k,) float32; those without a direction count for nothing."""
        if decision.verdict not in {Verdict.UNIQUE, Verdict.DUPLICATE} or vector is None:
            return
        self.judged += 1
        self._uniques += decision.verdict is Verdict.UNIQUE
        if len(self._vectors) < self._most_exact:
            self._vectors.append(vector.copy())
        elif (place := int(self._generator.integers(self.judged))) < self._most_exact:  # Vitter's algorithm R
            self._vectors[place] = vector.copy()

    @property
    def drawn(self) -> int:
        """How many vectors the table is made of."""
        return len(self._vectors)

    def rows(self) -> list[AtThreshold]:
        """One row for each τ, in rising order; that of the τ in force is always exact."""
        if not self._vectors:
            return []
        vectors, is_exact = np.stack(self._vectors), self.drawn == self.judged
        many = ManyThresholds(vectors if is_exact else self._generator.permutation(vectors))
        rows = []
        for threshold in self._thresholds:
            if threshold == self.threshold:
                rows.append(AtThreshold(threshold, self._uniques, is_exact=True))
            else:
                uniques = grown(many.uniques(threshold), self.drawn, self.judged)
                rows.append(AtThreshold(threshold, round(uniques), is_exact))
        return rows
