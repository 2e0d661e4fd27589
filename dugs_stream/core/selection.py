"""Greedy selection of the unique samples of a micro-batch, in arrival order, as if each had come alone.

A sample is unique when its similarity to every earlier unique, in the index or earlier in the same batch, is below τ and
none of them is equal to it. The whole batch is held against the index in one search; what the batch itself adds is held against
the rest by one float32 product, and what lies within the proven error bound of a decision or of the
maximum is computed in float64. So the split into batches changes no verdict, similarity or nearest.
"""

import itertools
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dugs_stream.core.index.similarity import NORM_TOLERANCE, error_bound, similarities
from dugs_stream.core.index.unique_index import UniqueIndex
from dugs_stream.records import Decision, Reason, Rejection, SequenceNumber, Verdict

Explain = Literal["nearest", "bound", "decision"]
"""What a verdict names: the nearest unique in any case; only that of a duplicate; any unique at which a sample is a duplicate."""

_LEAST_OF_EQUALS = (1 - NORM_TOLERANCE) ** 2
"""Equal vectors are at least this similar: their float64 product is the square of a norm that is 1 but for rounding."""


def select(
    index: UniqueIndex,
    vectors: NDArray[np.float32],
    norms: NDArray[np.float64],
    *,
    threshold: float,
    min_gradient_norm: float = 0.0,
    explain: Explain = "nearest",
) -> list[Decision]:
    """One decision a row, in order; changes nothing. Sequence numbers continue from len(index).

    vectors (m, k) float32, unit rows, or zero rows for gradients without a direction; norms (m,) float64, NaN or
    infinite for gradients that are not finite. With explain="nearest" every decision of a usable sample names its exact
    nearest unique; with "bound" a unique has similarity and nearest None and an upper bound instead, which
    saves work on long lists and, unlike all else, depends on the split; with "decision" a duplicate besides names the
    earliest unique that is similar enough (or the one that a graph of the index proposed), not the nearest. The very first
    unique has none of it.
    """
    if len(norms) != len(vectors):
        raise ValueError(f"{len(norms)} norms for {len(vectors)} vectors, expected as many")
    if explain not in ("nearest", "bound", "decision"):
        raise ValueError(f"explain is {explain!r}, expected 'nearest', 'bound' or 'decision'")
    if threshold <= -1.0:
        explain = "nearest"  # every sample reaches it, and a rounded product may lie a little below
    has_direction = vectors.any(axis=1)
    is_usable = np.isfinite(norms) & has_direction & (norms >= min_gradient_norm)
    batch, samples = _Batch(index, vectors[is_usable], threshold, explain), itertools.count()
    return [
        batch.decide(next(samples), float(norm)) if usable else _without_direction(float(norm))
        for usable, norm in zip(is_usable, norms, strict=True)
    ]


def _without_direction(norm: float) -> Decision:
    if np.isfinite(norm):
        return Decision(Verdict.NO_GRADIENT, gradient_norm=norm)
    reason = (
        f"the gradient's norm is {norm}, expected a finite number; look at the sample's values and its loss"
    )
    return Decision(Verdict.REJECTED, rejection=Rejection(Reason.NOT_FINITE, reason))


class _Batch:
    """The samples of one micro-batch that have a direction, on their way through the greedy choice."""

    def __init__(
        self, index: UniqueIndex, vectors: NDArray[np.float32], threshold: float, explain: Explain
    ) -> None:
        self._index = index
        self._vectors = vectors
        self._threshold = threshold
        self._explains_by_bound = explain != "nearest"
        self._takes_the_earliest = explain == "decision"
        self._error = error_bound(index.dimension)
        self._known = len(index)
        self._floor = threshold if self._explains_by_bound else -np.inf
        floor = threshold if self._explains_by_bound else None
        self._similarity, self._position = index.nearest(vectors, floor, explain)
        self._products: NDArray[np.float32] | None = None
        self._chosen: list[int] = []

    def decide(self, sample: int, norm: float) -> Decision:
        """The samples in order: first against the index, then against those this batch has added."""
        similarity, nearest = float(self._similarity[sample]), int(self._position[sample])
        is_settled = self._takes_the_earliest and nearest >= 0
        if self._chosen and not is_settled:
            similarity, nearest = self._nearer_in_batch(sample, similarity, nearest)
        if similarity < self._threshold and similarity > _LEAST_OF_EQUALS:
            equal = self._equal(sample)
            similarity, nearest = (1.0, equal) if equal >= 0 else (similarity, nearest)
        similarity = min(max(similarity, -1.0), 1.0) if np.isfinite(similarity) else similarity
        if nearest >= 0 and similarity >= self._threshold:
            return Decision(Verdict.DUPLICATE, similarity, SequenceNumber(nearest), gradient_norm=norm)
        sequence = SequenceNumber(self._known + len(self._chosen))
        self._chosen.append(sample)
        if sequence == 0:
            return Decision(Verdict.UNIQUE, sequence=sequence, gradient_norm=norm)
        if self._explains_by_bound:
            return Decision(Verdict.UNIQUE, None, None, sequence, norm, similarity_bound=similarity)
        return Decision(Verdict.UNIQUE, similarity, SequenceNumber(nearest), sequence, norm)

    def _equal(self, sample: int) -> int:
        """The earliest unique with the very same vector, −1 if there is none: a duplicate at any τ."""
        found = self._index.position_of(self._vectors[sample])
        equal = (self._vectors[self._chosen] == self._vectors[sample]).all(axis=1)
        return self._known + int(equal.argmax()) if found < 0 and equal.any() else found

    def _nearer_in_batch(self, sample: int, similarity: float, nearest: int) -> tuple[float, int]:
        """The better of what the index gave and the uniques of this batch; among equals the index's, the earlier.

        Where nothing reaches τ and a bound will do, the greater of both bounds and no nearest.
        """
        if self._products is None:
            self._products = self._vectors @ self._vectors.T  # (m, m)
        chosen = np.asarray(self._chosen)
        products = self._products[sample, chosen].astype(np.float64)
        floor = similarity if nearest >= 0 else self._floor
        least = floor - self._error
        if not self._takes_the_earliest:
            least = max(products.max() - 2 * self._error, least)
        near = np.flatnonzero(products >= least)
        exact = similarities(self._vectors, self._vectors, (np.full(len(near), sample), chosen[near]))
        if len(near):
            # Of equals the first, so the earliest.
            best = int((exact >= floor if self._takes_the_earliest else exact).argmax())
            if exact[best] > similarity if nearest >= 0 else exact[best] >= floor:
                return float(exact[best]), self._known + int(near[best])
        if nearest < 0:
            bound = min(products.max() + self._error, np.nextafter(self._threshold, -np.inf))
            return max(similarity, float(bound)), -1
        return similarity, nearest
