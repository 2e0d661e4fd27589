"""Cosine similarity of unit rows in float64, and the error bound of a float32 product.

The similarity of two float32 rows x, y of length k is s(x, y) = Σᵢ xᵢ·yᵢ, each product in float64 (exact: 24 + 24
bits fit into 53) and all of them added in one order that depends on k alone (numpy's pairwise sum along a
contiguous row). So a pair has the same similarity, to the last bit, in any batch and at any place, and equal
similarities are true ties.

"""

import numpy as np
from numpy.typing import NDArray

from dugs_stream.core.index.parallel import in_stripes

# Rounding a normalised row to float32 moves its norm by less than 1e-6, also after a float32 normalisation of
# 10⁵ dimensions; a row further away than 1e-4 was not normalised at all.
NORM_TOLERANCE = 1e-4

# Float32 sums of so many squares are sure to 3·10⁻⁵, a sixth of what NORM_TOLERANCE allows.
_SQUARES_A_SUM = 512

# 2¹⁵ float64 products, 256 KiB: they stay in a core's cache, and in memory that the process has already, where 2 MiB are
# asked of the system each time.
_PRODUCTS_AT_ONCE = 2**15


def similarities(
    left: NDArray[np.float32], right: NDArray[np.float32], pairs: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> NDArray[np.float64]:
    """s(left[i], right[j]) for every pair (i, j).

    left (a, k) float32, right (b, k) float32, pairs two (p,) int64 → (p,) float64.
    O(p·k) time; memory does not grow with p beyond the answer.
    """
    first, second = pairs
    answer = np.empty(len(first), dtype=np.float64)
    step = max(1, _PRODUCTS_AT_ONCE // max(1, left.shape[1]))
    for start in range(0, len(first), step):
        part = slice(start, start + step)
        products = left[first[part]].astype(np.float64)  # (step, k), C-contiguous
        products *= right[second[part]]
        answer[part] = products.sum(axis=1)
    return answer


def error_bound(dimension: int) -> float:
    """Upper bound of |p − s| for the float32 product p of two accepted rows of `dimension` k, about k·2⁻²⁴.

    With u = 2⁻²⁴ and γ(u) = k·u / (1 − k·u), any order of summation, fused or not, gives |p − x·y| ≤ γ(u)·‖x‖·‖y‖
    (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., § 3.1), and likewise |s − x·y| ≤ γ(2⁻⁵³)·‖x‖·‖y‖.
    NORM_TOLERANCE bounds the norms; products that underflow add at most 2⁻¹²⁶ each.
    """
    single, double = dimension * 2.0**-24, dimension * 2.0**-53
    norms = (1 + NORM_TOLERANCE) ** 2
    if single >= 0.5:  # noqa: PLR2004 - beyond k = 2²³ the series says nothing; Cauchy-Schwarz still does
        return 3 * norms
    return (single / (1 - single) + double / (1 - double)) * norms + dimension * 2.0**-126


def require_unit_rows(vectors: NDArray[np.float32], dimension: int, name: str) -> NDArray[np.float32]:
    """The same rows, C-contiguous; ValueError unless they are (n, dimension) float32, finite, of norm 1.

    `name` is their name in the message.
    """
    if not isinstance(vectors, np.ndarray) or vectors.dtype != np.float32:
        found = getattr(vectors, "dtype", type(vectors).__name__)
        raise ValueError(f"{name} are {found}, expected a numpy array of float32; use .astype(numpy.float32)")
    if vectors.ndim != 2 or vectors.shape[1] != dimension:  # noqa: PLR2004 - rows × dimensions
        raise ValueError(f"{name} have the shape {vectors.shape}, expected (n, {dimension})")
    vectors = np.ascontiguousarray(vectors)
    if _are_surely_units(vectors):
        return vectors
    norms = _norms(vectors)
    wrong = np.flatnonzero(~(np.abs(norms - 1) <= NORM_TOLERANCE))  # a NaN or infinite norm is wrong too
    if wrong.size:
        raise ValueError(
            f"{name}: row {wrong[0]} has the norm {norms[wrong[0]]:.9g} ({wrong.size} such rows), expected "
            f"finite rows of norm 1 ± {NORM_TOLERANCE:g}; divide each row by its norm and leave zero rows out"
        )
    return vectors


def _are_surely_units(vectors: NDArray[np.float32]) -> bool:
    """Whether quick sums of squares already prove all norms; a NaN proves nothing.

    A float32 sum of j squares, in any order, is off by the share γ = j·2⁻²⁴ / (1 − j·2⁻²⁴) at most. A square within
    2·NORM_TOLERANCE − NORM_TOLERANCE² of 1 has a root within NORM_TOLERANCE of 1.
    """
    dimension = vectors.shape[1]
    terms = _SQUARES_A_SUM if dimension % _SQUARES_A_SUM == 0 else dimension
    share = terms * 2.0**-24 / (1 - min(0.5, terms * 2.0**-24))
    parts = vectors.reshape(len(vectors), dimension // terms, terms)
    squares = np.einsum("npk,npk->np", parts, parts).sum(axis=1, dtype=np.float64)
    return bool((np.abs(squares - 1) <= 1.99 * NORM_TOLERANCE - 1.01 * share).all())


def _norms(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    norms = np.empty(len(vectors), dtype=np.float64)

    def measure(stripe: slice) -> None:
        rows = vectors[stripe]
        np.sqrt(np.einsum("nk,nk->n", rows, rows, dtype=np.float64), out=norms[stripe])

    in_stripes(len(vectors), measure)
    return norms
