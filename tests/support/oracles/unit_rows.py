"""Unit rows with cosines made to measure, and the naive loops that say what the right answer is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]


def unit_rows(seed: int, rows: int, dimension: int) -> Rows:
    """(rows, dimension) float32 unit rows in random directions."""
    drawn = np.random.default_rng(seed).standard_normal((rows, dimension))
    return _normalised(drawn)


def at_cosine(row: Rows, cosine: float, seed: int) -> Rows:
    """A unit row (k,) whose cosine to `row` is `cosine` up to the rounding of float32."""
    base = row.astype(np.float64)
    base /= np.linalg.norm(base)
    away = np.random.default_rng(seed).standard_normal(len(row))
    away -= (away @ base) * base
    length = np.linalg.norm(away)
    if length < 1e-9:  # one dimension has no other direction
        return _normalised(base[None])[0]
    return _normalised((cosine * base + np.sqrt(max(0.0, 1 - cosine**2)) * away / length)[None])[0]


def naive_similarity(left: Rows, right: Rows) -> float:
    """Σ left·right of one pair in float64."""
    return float((left.astype(np.float64) * right.astype(np.float64)).sum())


def naive_nearest(rows: Rows, query: Rows) -> tuple[float, int]:
    """One row after the other; the first of the highest. (−inf, −1) without rows."""
    best, position = -np.inf, -1
    for number, row in enumerate(rows):
        similarity = naive_similarity(row, query)
        if similarity > best:
            best, position = similarity, number
    return best, position


def naive_selection(rows: Rows, threshold: float) -> list[tuple[bool, float | None, int | None]]:
    """(is unique, similarity, nearest) of each row, one row at a time from an empty list."""
    uniques: list[Rows] = []
    decided: list[tuple[bool, float | None, int | None]] = []
    for row in rows:
        similarity, nearest = naive_nearest(np.asarray(uniques), row)
        equal = next((at for at, unique in enumerate(uniques) if np.array_equal(unique, row)), None)
        if similarity < threshold and equal is not None:  # equal vectors are duplicates at any threshold
            similarity, nearest = 1.0, equal
        similarity = min(max(similarity, -1.0), 1.0)
        is_unique = not uniques or similarity < threshold
        decided.append((is_unique, similarity if uniques else None, nearest if uniques else None))
        if is_unique:
            uniques.append(row)
    return decided


def _normalised(rows: NDArray[np.float64]) -> Rows:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
