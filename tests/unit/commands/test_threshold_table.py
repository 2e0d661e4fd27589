"""Table of thresholds: exact while the vectors are there, an estimate afterwards, and silent where nothing is known."""

from __future__ import annotations

import numpy as np
import pytest

from dugs_stream.commands.threshold_table import THRESHOLDS, ThresholdTable
from dugs_stream.core.index.unique_index import UniqueIndex
from dugs_stream.core.selection import Explain, select


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


def table_of(vectors: np.ndarray, explain: Explain, most_exact: int) -> ThresholdTable:
    """Of a run at 0.55 over all rows."""
    table = ThresholdTable(0.55, explain, most_exact=most_exact)
    decisions = select(UniqueIndex(16), vectors, np.ones(len(vectors)), threshold=0.55, explain=explain)
    for decision, vector in zip(decisions, vectors, strict=True):
        table.take(decision, vector)
    return table


def test_few_vectors_are_judged_again_at_each_threshold(vectors: np.ndarray) -> None:
    """However a run explains its verdicts."""
    for explain in ("nearest", "bound", "decision"):
        rows = table_of(vectors, explain, 60).rows()

        assert [each.threshold for each in rows] == sorted({*THRESHOLDS, 0.55})
        assert all(each.is_exact for each in rows)
        assert [each.uniques for each in rows] == [uniques_at(vectors, each.threshold) for each in rows]


def test_more_vectors_are_an_estimate_but_at_the_threshold_in_force(vectors: np.ndarray) -> None:
    """It rises with τ, and is as far as the similarities of the run can tell."""
    rows = table_of(vectors, "nearest", 59).rows()

    assert [each.threshold for each in rows if each.is_exact] == [0.55]
    counts = [each.uniques for each in rows]
    assert counts == sorted(counts)
    assert counts[rows.index(next(each for each in rows if each.is_exact))] == uniques_at(vectors, 0.55)


@pytest.mark.parametrize(
    ("explain", "told"), [("bound", [0.55, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99]), ("decision", [0.55])]
)
def test_threshold_of_which_nothing_is_known_has_no_row(
    vectors: np.ndarray, explain: Explain, told: list[float]
) -> None:
    """Uniques without a similarity say nothing of lower thresholds, duplicates of any unique nothing of others."""
    assert [each.threshold for each in table_of(vectors, explain, 10).rows()] == told


def test_table_of_nothing_is_empty() -> None:
    """No record, no row."""
    assert ThresholdTable(0.3).rows() == []
