"""Table of thresholds: exact while the vectors are there, an estimate afterwards."""

from __future__ import annotations

import numpy as np
import pytest

from dugs_stream.commands.threshold_table import THRESHOLDS, ThresholdTable
from dugs_stream.core.index.unique_index import UniqueIndex
from dugs_stream.core.selection import select


@pytest.fixture
def vectors() -> np.ndarray:
    """Sixty rows around four directions."""
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(4, 16))[generator.integers(4, size=60)] * 2
    rows += generator.normal(size=rows.shape)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def uniques_at(vectors: np.ndarray, threshold: float) -> int:
    """As the daemon would count them."""
    decisions = select(UniqueIndex(16), vectors, np.ones(len(vectors)), threshold=threshold)
    return sum(each.sequence is not None for each in decisions)


def table_of(vectors: np.ndarray, most_exact: int) -> ThresholdTable:
    """Of a run at 0.55 over all rows."""
    table = ThresholdTable(0.55, most_exact=most_exact)
    decisions = select(UniqueIndex(16), vectors, np.ones(len(vectors)), threshold=0.55)
    for decision, vector in zip(decisions, vectors, strict=True):
        table.take(decision, vector)
    return table


def test_few_vectors_are_judged_again_at_each_threshold(vectors: np.ndarray) -> None:
    """In their order."""
    rows = table_of(vectors, 60).rows()

    assert [each.threshold for each in rows] == sorted({*THRESHOLDS, 0.55})
    assert all(each.is_exact for each in rows)
    assert [each.uniques for each in rows] == [uniques_at(vectors, each.threshold) for each in rows]


def test_more_vectors_are_an_estimate_but_at_the_threshold_in_force() -> None:
    """From a random sample, also where the records are sorted by class."""
    generator = np.random.default_rng(0)
    rows = np.repeat(generator.normal(size=(6, 16)), 100, axis=0) * 1.5
    rows += generator.normal(size=rows.shape)
    many = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    table = table_of(many, 200)
    found = {each.threshold: each for each in table.rows()}

    assert (table.judged, table.drawn) == (600, 200)
    assert [each.threshold for each in found.values() if each.is_exact] == [0.55]
    assert found[0.55].uniques == uniques_at(many, 0.55)
    for threshold in (0.7, 0.8, 0.9):
        assert found[threshold].uniques == pytest.approx(uniques_at(many, threshold), rel=0.3), threshold


def test_table_of_nothing_is_empty() -> None:
    """No record, no row."""
    assert ThresholdTable(0.3).rows() == []
