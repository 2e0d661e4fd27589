"""Verdicts inside a micro-batch: what has no direction, who is whose duplicate, and what is explained."""

from __future__ import annotations

import numpy as np
import pytest

from dugs_stream.core.index.unique_index import UniqueIndex
from dugs_stream.core.selection import Explain, select
from dugs_stream.records import Decision, Reason, Verdict
from tests.support.oracles.unit_rows import at_cosine, naive_nearest, naive_similarity, unit_rows

ROWS = unit_rows(40, 6, 32)


def filled(rows):
    index = UniqueIndex(rows.shape[1])
    index.add(rows)
    return index


def choose(index, rows, norms=None, **keywords):
    norms = np.ones(len(rows)) if norms is None else np.asarray(norms, dtype=np.float64)
    return select(index, rows, norms, **{"threshold": 0.9, **keywords})


def test_first_unique_has_no_nearest():
    """The very first unique has no similarity, no nearest and no bound, whatever is asked to be explained."""
    for explain in ("nearest", "bound", "decision"):
        assert choose(UniqueIndex(32), ROWS[:1], explain=explain) == [
            Decision(Verdict.UNIQUE, sequence=0, gradient_norm=1.0)
        ]


def test_duplicate_inside_the_batch_names_its_unique():
    """A copy later in the same batch is a duplicate of the earlier one, by its sequence number."""
    index = filled(ROWS[:2])
    decisions = choose(index, ROWS[[2, 3, 2, 3, 0]])

    assert [decision.verdict for decision in decisions] == ["unique", "unique"] + ["duplicate"] * 3
    assert [decision.sequence for decision in decisions] == [2, 3, None, None, None]
    assert [decision.nearest for decision in decisions[2:]] == [2, 3, 0]
    assert decisions[4].similarity == min(naive_similarity(ROWS[0], ROWS[0]), 1.0)


def test_nearest_in_the_batch_beats_a_lesser_one_in_the_index():
    """For a duplicate the nearest is the unique of highest similarity, wherever it stands."""
    index = filled(ROWS[:1])
    close = at_cosine(ROWS[0], 0.85, 1)
    decisions = choose(index, np.stack([close, at_cosine(close, 0.999, 2)]))

    assert [decision.verdict for decision in decisions] == ["unique", "duplicate"]
    assert decisions[1].nearest == 1


def test_nearest_in_the_index_beats_a_lesser_one_in_the_batch():
    """A unique of the same batch that is less alike changes nothing."""
    index = filled(ROWS[:1])
    decisions = choose(index, np.stack([at_cosine(ROWS[0], 0.85, 1), at_cosine(ROWS[0], 0.999, 2)]))

    assert [decision.nearest for decision in decisions] == [0, 0]
    assert decisions[1].verdict == "duplicate"


def test_unique_is_explained_by_its_exact_nearest():
    """explain=nearest gives a later unique the exact highest similarity, from the index or the batch."""
    decisions = choose(filled(ROWS[:3]), ROWS[3:])

    for place, decision in enumerate(decisions):
        assert (decision.similarity, decision.nearest) == naive_nearest(ROWS[: 3 + place], ROWS[3 + place])


def test_bound_replaces_the_nearest_of_a_unique():
    """explain=bound gives a unique no nearest and an upper bound below τ; duplicates stay exact."""
    rows = np.concatenate([ROWS[3:], ROWS[3:4]])
    exact, bounded = choose(filled(ROWS[:3]), rows), choose(filled(ROWS[:3]), rows, explain="bound")

    assert bounded[3] == exact[3]
    for precise, decision in zip(exact[:3], bounded[:3], strict=True):
        assert (decision.verdict, decision.similarity, decision.nearest) == ("unique", None, None)
        assert precise.similarity <= decision.similarity_bound < 0.9
        assert decision.sequence == precise.sequence


@pytest.mark.parametrize("norm", [0.0, 1e-31, 9.9e-31, 0.004])
def test_norm_below_the_floor_is_no_gradient(norm):
    """Zero, underflowing, or below the configured floor: nothing to learn, its norm told, its row not looked at."""
    decisions = choose(UniqueIndex(32), np.zeros((1, 32), dtype=np.float32), [norm], min_gradient_norm=0.005)

    assert decisions == [Decision(Verdict.NO_GRADIENT, gradient_norm=norm)]


@pytest.mark.parametrize("norm", [np.nan, np.inf, -np.inf])
def test_gradient_that_is_not_finite_is_rejected(norm):
    """NaN and infinity are rejected with the reason, although their rows hold NaN."""
    (decision,) = choose(filled(ROWS), np.full((1, 32), np.nan, dtype=np.float32), [norm])

    assert (decision.verdict, decision.gradient_norm) == (Verdict.REJECTED, None)
    assert decision.rejection.reason is Reason.NOT_FINITE
    assert str(norm) in decision.rejection.error


def test_rows_without_direction_do_not_shift_the_others():
    """Verdicts come in the order of the rows, and sequence numbers pass over whatever is not unique."""
    rows = ROWS.copy()
    rows[1], rows[3] = 0, np.nan
    decisions = choose(UniqueIndex(32), rows, [1, 0, 2, np.nan, 3, 4])

    assert [decision.sequence for decision in decisions] == [0, None, 1, None, 2, 3]
    assert [decision.gradient_norm for decision in decisions] == [1, 0, 2, None, 3, 4]


def test_norm_at_the_floor_is_judged():
    """The floor itself is enough."""
    (decision,) = choose(UniqueIndex(32), ROWS[:1], [0.005], min_gradient_norm=0.005)

    assert decision.verdict == "unique"


def test_selecting_changes_nothing():
    """Only add changes the index; asking twice gives the same answer."""
    index = filled(ROWS[:2])

    assert choose(index, ROWS) == choose(index, ROWS)
    assert len(index) == 2


def test_empty_batch_has_no_decisions():
    """M = 0 is an ordinary batch."""
    assert choose(filled(ROWS), np.empty((0, 32), dtype=np.float32)) == []


def test_row_without_unit_norm_is_the_callers_mistake():
    """A usable norm with a row that is neither a unit row nor zero is refused, not judged."""
    with pytest.raises(ValueError, match="queries: row 0 has the norm 2"):
        choose(UniqueIndex(32), 2 * ROWS[:1], [1.0])


def test_row_without_a_direction_is_no_gradient_whatever_its_norm():
    """The projector says what is too small to have a direction; nothing here asks again."""
    decisions = choose(UniqueIndex(32), np.zeros((1, 32), dtype=np.float32), [1e-31])

    assert decisions == [Decision(Verdict.NO_GRADIENT, gradient_norm=1e-31)]


def test_numbers_that_do_not_match_are_refused():
    """As many norms as rows, and one of three ways to explain."""
    with pytest.raises(ValueError, match="2 norms for 6 vectors"):
        choose(UniqueIndex(32), ROWS, [1, 1])
    with pytest.raises(ValueError, match="explain is 'all'"):
        choose(UniqueIndex(32), ROWS, explain="all")


@pytest.mark.parametrize("explain", ["nearest", "bound", "decision"])
@pytest.mark.parametrize("threshold", [0.9, 1 - 1e-9, 1.0])
def test_equal_vectors_are_duplicates_at_any_threshold(threshold, explain):
    """A repeat's similarity may come out as 1 less a rounding, which is no reason to publish it again."""
    rows = unit_rows(8, 60, 257)
    index = filled(rows[:30])
    decisions = choose(index, np.concatenate([rows, rows[::-1]]), threshold=threshold, explain=explain)

    assert [decision.verdict for decision in decisions] == ["duplicate"] * 30 + ["unique"] * 30 + [
        "duplicate"
    ] * 60
    repeats = decisions[:30] + decisions[60:]
    assert [decision.nearest for decision in repeats] == [*range(30), *range(59, -1, -1)]
    assert all(threshold <= decision.similarity <= 1 for decision in repeats)


def test_similarities_lie_between_minus_one_and_one():
    """Rounding past the ends is cut off, for opposite vectors too."""
    rows = unit_rows(9, 200, 33)
    norms = [naive_similarity(row, row) for row in rows]
    longest = rows[int(np.argmax(norms))]
    assert max(norms) > 1
    decisions = choose(filled(longest[None]), np.stack([longest, -longest]), threshold=-1.0)

    assert [decision.verdict for decision in decisions] == ["duplicate", "duplicate"]
    assert [decision.similarity for decision in decisions] == [1.0, -1.0]


@pytest.mark.parametrize("explain", ["nearest", "bound", "decision"])
def test_everything_after_the_first_is_a_duplicate_at_the_least_threshold(explain: Explain) -> None:
    """A product of opposite rows may be rounded to a little below −1."""
    rows = np.random.default_rng(0).normal(size=(40, 24))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    for row in rows:
        decisions = select(
            UniqueIndex(24), np.stack([row, -row]), np.ones(2), threshold=-1.0, explain=explain
        )
        assert [each.verdict for each in decisions] == [Verdict.UNIQUE, Verdict.DUPLICATE]
