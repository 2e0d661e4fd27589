"""One sample at many thresholds, against the sequential algorithm at each of them."""

from __future__ import annotations

import numpy as np
import pytest

from dugs_stream.core.index.similarity import similarities
from dugs_stream.core.index.unique_index import UniqueIndex
from dugs_stream.core.selection import select
from dugs_stream.core.thresholds import ManyThresholds
from dugs_stream.records import Verdict


def unit_rows(count: int, dimension: int, seed: int) -> np.ndarray:
    """Rows around a few directions, some of them equal, so that every cosine occurs."""
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(5, dimension))[generator.integers(5, size=count)]
    rows += generator.normal(size=rows.shape) * generator.uniform(0, 2, size=(count, 1))
    rows[count // 2 :: 7] = rows[: len(rows[count // 2 :: 7])]
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def sequential(vectors: np.ndarray, threshold: float) -> list[int]:
    """The rows that the daemon's own choice accepts."""
    decisions = select(UniqueIndex(vectors.shape[1]), vectors, np.ones(len(vectors)), threshold=threshold)
    return [row for row, decision in enumerate(decisions) if decision.verdict is Verdict.UNIQUE]


@pytest.mark.parametrize("seed", range(3))
def test_uniques_at_each_threshold_are_those_of_the_sequential_algorithm(seed: int) -> None:
    """Also at thresholds that are similarities of pairs to the last bit, or next to them, at both ends; and of some rows in another order."""
    vectors = unit_rows(90, 33, seed)
    pairs = np.random.default_rng(seed).integers(90, size=(2, 12))
    exact = similarities(vectors, vectors, (pairs[0], pairs[1]))
    thresholds = [-1.0, -0.5, 0.0, 0.3, 0.95, 1.0, *exact, *np.nextafter(exact, 2)]
    many = ManyThresholds(vectors)

    some = np.random.default_rng(seed).permutation(90)[:60]

    for threshold in (each for each in thresholds if each <= 1.0):
        assert many.uniques(threshold).tolist() == sequential(vectors, threshold), threshold
        assert many.uniques(threshold, some).tolist() == sequential(vectors[some], threshold), threshold


def test_products_of_several_blocks_are_symmetric_and_near_the_similarities() -> None:
    """Half of them is computed, the other half copied."""
    vectors = unit_rows(1100, 8, 0)
    products = ManyThresholds(vectors).products

    assert np.array_equal(products, products.T)
    assert np.abs(products - vectors.astype(np.float64) @ vectors.astype(np.float64).T).max() < 1e-6


def test_samples_of_no_and_of_one_row() -> None:
    """None has no unique, one is unique."""
    vectors = unit_rows(8, 8, 0)

    assert ManyThresholds(vectors[:0]).uniques(0.5).tolist() == []
    assert ManyThresholds(vectors[:1]).uniques(0.5).tolist() == [0]
    with pytest.raises(ValueError, match="the vectors of a sample"):
        ManyThresholds(vectors * 2)
