"""Value of samples for a target set: the cosine of each projected gradient with the target's mean gradient.

Positive: a small step that lowers the loss of the sample lowers the loss of the target too. There are two means:

    raw       ḡ, the gradient of the target's mean loss; the few samples with the longest gradients are most of it
    balanced  (C + λI)⁻¹ū, the mean of the unit gradients, preconditioned by their second moment C = Σ uᵢuᵢᵀ / n: the
              direction in which all of the target gains alike, as far as λ allows

A model that fits its target has a raw mean near zero whose direction is that of what it gets wrong; so balanced ranks
wrong labels low where raw does not. Pure: no clock, no I/O.

Source: data valuation with gradient similarity (DVGS, arXiv 2405.08217), which takes raw along a training run instead
of at one state of the model. The preconditioning is the damped empirical Fisher matrix of influence functions.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dugs_stream.core.index.similarity import similarities
from dugs_stream.core.projector import Projection

Mean = Literal["balanced", "raw"]
"""Which mean of the target's gradients."""

_DAMPING = 1e-4
"""λ. On digits 1e-5 to 1e-3 rank wrong labels about alike, 1e-2 much less well; of unit gradients, so that the scale of the loss
does not matter."""

_LEAST_LENGTH = 1e-6
"""A raw mean shorter than this share of its gradients is the rounding of float32 rows, and has no direction."""


NO_GRADIENT = "none of its records has a gradient"
"""Why a target has no mean."""


class NoDirectionError(ValueError):
    """The gradients have no mean that a cosine could be taken with; the text says why."""


@dataclass(frozen=True, slots=True)
class MeanGradient:
    """The mean of a target's projected gradients.

    direction  (k,) float32, a unit row
    samples    how many gradients it is the mean of
    own_value  the mean value of these very samples
    """

    direction: NDArray[np.float32] = field(repr=False, compare=False)
    samples: int
    own_value: float

    def values(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """The value (m,) of samples with these unit rows (m, k), in −1…1; the same bits in any company.

        It is computed as the similarity of two samples is, in float64 from float32 rows.
        """
        rows = np.arange(len(vectors), dtype=np.int64)
        cosines = similarities(vectors, self.direction[np.newaxis], (rows, np.zeros_like(rows)))
        return np.clip(cosines, -1.0, 1.0)


def with_direction(projection: Projection) -> NDArray[np.bool_]:
    """Which of the gradients (n,) a mean can be taken of: finite ones that are not zero."""
    found: NDArray[np.bool_] = np.isfinite(projection.norms) & projection.vectors.any(axis=1)
    return found


class TargetGradients:
    """The projected gradients of a target, 4·k bytes each; those without a direction are not kept."""

    def __init__(self, dimension: int) -> None:
        self._rows: list[NDArray[np.float32]] = [np.empty((0, dimension), np.float32)]
        self._norms: list[NDArray[np.float64]] = [np.empty(0, np.float64)]

    def add(self, projection: Projection) -> NDArray[np.bool_]:
        """Keep the gradients that have a direction: which of them (n,)."""
        is_kept = with_direction(projection)
        self._rows.append(projection.vectors[is_kept])
        self._norms.append(projection.norms[is_kept])
        return is_kept

    def mean(self, how: Mean) -> MeanGradient:
        """Their mean. Raises NoDirectionError if there are none, or if they cancel out."""
        return mean_gradient(np.concatenate(self._rows), np.concatenate(self._norms), how)


def mean_gradient(
    rows: NDArray[np.float32],
    norms: NDArray[np.float64],
    how: Mean,
    weights: NDArray[np.float64] | None = None,
) -> MeanGradient:
    """The mean of gradients: their unit rows (n, k), their lengths (n,), and how much each counts (n,); None: all alike.

    raw is then Σ wᵢgᵢ. In balanced both ū and C are weighted: with s = √(w/Σw) and U' = s·U it is (U'ᵀU' + λI)⁻¹U'ᵀs.
    Raises NoDirectionError if there are none, or if they cancel out.
    """
    if not len(rows):
        raise NoDirectionError(NO_GRADIENT)
    if how == "raw":
        total = _raw(rows, norms, weights)
    else:
        total = _balanced(rows) if weights is None else _balanced_of_weighted(rows, weights)
    direction = (total / np.linalg.norm(total)).astype(np.float32)
    mean = MeanGradient(direction, len(rows), 0.0)
    own_value = float(np.average(mean.values(rows), weights=weights))
    return MeanGradient(direction, len(rows), own_value)


def half_life_weights(count: int, half_life: float) -> NDArray[np.float64]:
    """What each of so many gradients counts, the oldest first: 2^(−age/half_life), the age counted in later ones.

    The newest has the weight 1, so that they never vanish together.
    """
    return np.exp2(np.arange(1 - count, 1) / half_life)


def _raw(
    rows: NDArray[np.float32], norms: NDArray[np.float64], weights: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    """(k,), Σ wᵢgᵢ but for a factor; by parts of the longest, so that no sum overflows."""
    parts = norms / norms.max()
    if weights is not None:
        parts = parts * weights
    total: NDArray[np.float64] = parts @ rows.astype(np.float64)
    if np.linalg.norm(total) < _LEAST_LENGTH * parts.sum():
        raise _cancelled(len(rows))
    return total


def _balanced(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """(k,), by the smaller of the two systems: Uᵀ(UUᵀ/n + λI)⁻¹1/n = (UᵀU/n + λI)⁻¹Uᵀ1/n."""
    unit = rows.astype(np.float64)
    n, k = unit.shape
    if n <= k:
        weights = np.linalg.solve(unit @ unit.T / n + _DAMPING * np.eye(n), np.full(n, 1 / n))
        total = weights @ unit
    else:
        total = np.linalg.solve(unit.T @ unit / n + _DAMPING * np.eye(k), unit.mean(axis=0))
    if np.linalg.norm(total) < _LEAST_LENGTH:
        raise _cancelled(n)
    return total


def _balanced_of_weighted(rows: NDArray[np.float32], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """(k,), the same with weights. Apart from it, since equal ones would round otherwise: a fixed target keeps its bits."""
    roots = np.sqrt(weights / weights.sum())
    scaled = rows.astype(np.float64) * roots[:, np.newaxis]
    n, k = scaled.shape
    if n <= k:
        total: NDArray[np.float64] = np.linalg.solve(scaled @ scaled.T + _DAMPING * np.eye(n), roots) @ scaled
    else:
        total = np.linalg.solve(scaled.T @ scaled + _DAMPING * np.eye(k), scaled.T @ roots)
    if np.linalg.norm(total) < _LEAST_LENGTH:
        raise _cancelled(n)
    return total


def _cancelled(records: int) -> NoDirectionError:
    return NoDirectionError(f"the gradients of its {records} records cancel out")
