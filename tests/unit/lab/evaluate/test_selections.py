"""Selections on streams: each picks as many as it is asked for, and each by its own rule."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dugs_stream.core.index.unique_index import UniqueIndex
from dugs_stream.core.selection import select
from dugs_stream.lab.evaluate.greedy import cosines_of, greedy, greedy_of_size
from dugs_stream.lab.evaluate.selections import (
    GreedyUniques,
    GssGreedy,
    KCenterGreedy,
    Ranking,
    Selection,
    SemDeDup,
    random_pick,
    reservoir,
)
from dugs_stream.records import Verdict
from tests.support.oracles.unit_rows import unit_rows

ROWS = unit_rows(3, 60, 8)
STREAM = np.random.default_rng(1).permutation(60)[:50]
MAKERS: dict[str, Callable[[], Selection]] = {
    "greedy": lambda: GreedyUniques(ROWS),
    "random": lambda: random_pick,
    "reservoir": lambda: reservoir,
    "ranking": lambda: Ranking(np.arange(60.0)),
    "k-center": lambda: KCenterGreedy(ROWS),
    "SemDeDup": lambda: SemDeDup(ROWS),
    "GSS-Greedy": lambda: GssGreedy(ROWS),
}


def picked(selection: Selection, stream: NDArray[np.int64], size: int, seed: int = 0) -> list[int]:
    """Positions of the picks in the stream, as numbers."""
    return [int(each) for each in selection(stream, np.random.default_rng(seed))(size)]


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("size", [1, 7, 50])
def test_selection_picks_distinct_records_and_the_same_for_a_seed(name: str, size: int) -> None:
    """As many as asked for, all of the stream, and nothing hidden between two calls."""
    first = picked(MAKERS[name](), STREAM, size)

    assert len(set(first)) == len(first) == size
    assert set(first) <= set(range(len(STREAM)))
    assert picked(MAKERS[name](), STREAM, size) == first


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), threshold=st.floats(-0.5, 1.0))
def test_greedy_rule_is_that_of_the_daemon(seed: int, threshold: float) -> None:
    """The same uniques as `core.selection` finds, equal rows and rows without a direction among them."""
    rows = unit_rows(seed, 40, 6)
    rows[7], rows[11] = rows[3], 0
    decided = select(UniqueIndex(6), rows, np.where(rows.any(axis=1), 1.0, 0.0), threshold=threshold)
    wanted = [place for place, each in enumerate(decided) if each.verdict is Verdict.UNIQUE]

    assert greedy(cosines_of(rows), rows.any(axis=1), threshold).tolist() == wanted


def test_threshold_is_found_for_a_size() -> None:
    """The picks are those of the rule at that τ; where there are fewer distinct rows, all of them."""
    cosines, usable = cosines_of(ROWS), np.ones(60, dtype=np.bool_)
    fitted = greedy_of_size(cosines, usable, 20)
    assert len(fitted.picks) == 20
    assert greedy(cosines, usable, fitted.threshold)[:20].tolist() == fitted.picks.tolist()

    doubled = np.concatenate([ROWS[:5], ROWS[:5]])
    few = greedy_of_size(cosines_of(doubled), np.ones(10, dtype=np.bool_), 8)
    assert (few.picks.tolist(), few.threshold) == ([0, 1, 2, 3, 4], 1.0)


def test_k_center_takes_the_farthest() -> None:
    """Each pick is the record least similar to those before it; equal records come last, and once each."""
    rows = np.concatenate([ROWS[:20], ROWS[:3]])
    order = picked(KCenterGreedy(rows), np.arange(23), 23)
    for count in range(1, 20):
        nearest = (rows @ rows[order[:count]].T).max(axis=1)
        assert nearest[order[count]] == pytest.approx(nearest.min(), abs=1e-6)
    assert set(order[20:]) | set(order[:20]) == set(range(23))


def test_semdedup_drops_the_doubled_first() -> None:
    """Of two equal records one is kept as long as all others are less alike."""
    rows = np.concatenate([ROWS[:30], ROWS[:10]])
    kept = picked(SemDeDup(rows), np.arange(40), 30)

    assert len({rows[each].tobytes() for each in kept}) == 30


def test_gss_keeps_what_points_elsewhere() -> None:
    """After a hundred records of one direction and ten of the opposite one, the buffer holds some of these."""
    generator = np.random.default_rng(0)
    rows = (
        np.tile(np.eye(4, dtype=np.float32)[0], (110, 1))
        + generator.normal(size=(110, 4)).astype(np.float32) / 20
    )
    rows[100:] *= -1
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)

    kept = picked(GssGreedy(rows), np.arange(110), 10)
    assert sum(each >= 100 for each in kept) >= 1
    assert len(set(kept)) == 10


def test_reservoir_gives_each_record_the_same_chance() -> None:
    """Over many streams the first and the last tenth are picked about as often."""
    counts = np.zeros(50)
    for seed in range(400):
        counts[picked(reservoir, np.arange(50), 10, seed)] += 1
    assert counts[:5].mean() == pytest.approx(80, abs=12)
    assert counts[-5:].mean() == pytest.approx(80, abs=12)


def test_ranking_takes_the_highest() -> None:
    """Equal scores in order of arrival."""
    scores = np.array([1.0, 5.0, 5.0, 2.0])

    assert picked(Ranking(scores), np.array([3, 2, 1, 0]), 3) == [1, 2, 0]
