"""Exact nearest-neighbour index: its edge values, its refusals and its memory."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

from dugs_stream.core.index import unique_index as index_module
from dugs_stream.core.index.rows import SEGMENT_ROWS
from dugs_stream.core.index.unique_index import UniqueIndex
from tests.support.oracles.unit_rows import Rows, at_cosine, naive_nearest, naive_similarity, unit_rows


def filled(rows: Rows, **keywords: Any) -> UniqueIndex:
    index = UniqueIndex(rows.shape[1], **keywords)
    index.add(rows)
    return index


def test_empty_index_answers_minus_infinity_and_no_position() -> None:
    """Without uniques there is no nearest one: −inf and −1, with a threshold and without."""
    index = UniqueIndex(3)

    for threshold in (None, 0.3):
        similarity, position = index.nearest(unit_rows(0, 2, 3), threshold)
        assert similarity.tolist() == [-np.inf, -np.inf]
        assert position.tolist() == [-1, -1]


def test_no_queries_get_an_empty_answer_of_the_right_types() -> None:
    """M = 0 is an ordinary question, and adding nothing an ordinary step."""
    index = filled(unit_rows(0, 5, 3))
    index.add(np.empty((0, 3), dtype=np.float32))

    similarity, position = index.nearest(np.empty((0, 3), dtype=np.float32))

    assert (similarity.dtype, position.dtype) == (np.dtype(np.float64), np.dtype(np.int64))
    assert (len(similarity), len(position), len(index)) == (0, 0, 5)


def test_equal_rows_are_answered_by_the_earliest() -> None:
    """Ties go to the row that came first, also across blocks and calls."""
    row = unit_rows(5, 1, 16)
    index = filled(np.concatenate([unit_rows(6, 40, 16), row, unit_rows(7, 9, 16), row, row]))
    index.add(row)

    _, position = index.nearest(row)

    assert position.tolist() == [40]


def test_queries_near_the_threshold_are_decided_in_float64() -> None:
    """Within 1e-6 of τ a float32 product decides many wrongly; the index decides none so."""
    rows = unit_rows(8, 300, 512)
    index = filled(rows)
    queries = np.stack([at_cosine(rows[n % 300], 0.3 + (n % 7 - 3) * 3e-7, 1_000 + n) for n in range(600)])
    truth = np.array([naive_similarity(rows[n % 300], queries[n]) >= 0.3 for n in range(600)])

    _, position = index.nearest(queries, threshold=0.3)

    assert ((position >= 0) == truth).all()
    float32_says = (queries @ rows.T).max(axis=1) >= np.float32(0.3)
    assert (float32_says != truth).sum() > 0


def test_below_the_threshold_the_similarity_is_an_upper_bound_under_it() -> None:
    """Position −1 comes with a number that the true maximum does not exceed and τ does."""
    rows, queries = unit_rows(9, 100, 64), unit_rows(10, 50, 64)
    index = filled(rows)
    truth, _ = index.nearest(queries)

    bound, position = index.nearest(queries, threshold=0.9)

    assert (position == -1).all()
    assert (bound >= truth).all()
    assert (bound < 0.9).all()
    assert (bound - truth).max() < 1e-4


def test_similarity_equal_to_the_threshold_reaches_it() -> None:
    """τ itself counts as reached: unique means strictly below."""
    rows = unit_rows(11, 20, 32)
    exact, nearest = filled(rows).nearest(unit_rows(12, 1, 32))

    _, position = filled(rows).nearest(unit_rows(12, 1, 32), threshold=float(exact[0]))
    _, above = filled(rows).nearest(unit_rows(12, 1, 32), threshold=float(np.nextafter(exact[0], 2)))

    assert position.tolist() == nearest.tolist()
    assert above.tolist() == [-1]


def test_list_longer_than_a_segment_is_searched_whole() -> None:
    """Rows of every segment are found, and `vectors` gives them back in order."""
    rows = unit_rows(13, SEGMENT_ROWS + 300, 4)
    index = UniqueIndex(4, graph_from=None)
    for start in range(0, len(rows), 30_000):
        index.add(rows[start : start + 30_000])
    wanted = np.array([0, 29_999, SEGMENT_ROWS - 1, SEGMENT_ROWS, SEGMENT_ROWS + 299])

    similarity, position = index.nearest(rows[wanted])

    products = rows[wanted].astype(np.float64) @ rows.astype(np.float64).T
    assert np.allclose(similarity, products.max(axis=1), rtol=0, atol=1e-14)
    assert (products[np.arange(5), position] >= products.max(axis=1) - 1e-14).all()
    assert np.array_equal(index.vectors, rows)
    assert np.array_equal(
        index.rows(SEGMENT_ROWS - 2, SEGMENT_ROWS + 2), rows[SEGMENT_ROWS - 2 : SEGMENT_ROWS + 2]
    )


def test_ten_thousand_equal_rows_take_bounded_memory() -> None:
    """Every row being a candidate of every query costs time, not memory."""
    index = filled(np.repeat(unit_rows(14, 1, 64), 10_000, axis=0), graph_from=None)
    queries = np.repeat(unit_rows(14, 1, 64), 32, axis=0)

    tracemalloc.start()
    _, position = index.nearest(queries)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert (position == 0).all()
    all_pairs_bytes = 32 * 10_000 * 64 * 8
    assert peak_bytes < all_pairs_bytes / 3


def test_more_queries_than_one_part_holds_are_all_answered() -> None:
    """A call with many queries is searched in parts that join in order."""
    rows = unit_rows(15, 50, 8)
    queries = unit_rows(16, index_module._QUERIES_AT_ONCE + 5, 8)

    similarity, position = filled(rows).nearest(queries)

    for place in (0, len(queries) - 6, len(queries) - 1):
        assert (similarity[place], position[place]) == naive_nearest(rows, queries[place])


def test_vectors_are_read_only_and_a_copy_of_what_was_given() -> None:
    """Neither the caller's array nor the index's rows can be changed through the other."""
    given = unit_rows(17, 3, 4)
    index = filled(given)
    kept = given.copy()
    given[:] = 0

    assert np.array_equal(index.vectors, kept)
    with pytest.raises(ValueError, match="read-only"):
        index.vectors[0, 0] = 1


def test_refused_rows_leave_the_index_as_it_was() -> None:
    """One bad row in a batch means that none of it is added."""
    index = filled(unit_rows(18, 3, 4))
    bad = unit_rows(19, 2, 4)
    bad[1] = 0

    with pytest.raises(ValueError, match="vectors: row 1 has the norm 0"):
        index.add(bad)

    assert len(index) == 3


def test_threshold_that_is_not_finite_and_dimension_below_one_are_refused() -> None:
    """Nothing can be compared with such a threshold, and there is no row without dimensions."""
    for threshold in (np.nan, np.inf):
        with pytest.raises(ValueError, match="expected a finite number"):
            UniqueIndex(2).nearest(unit_rows(0, 1, 2), threshold)
    with pytest.raises(ValueError, match="dimension is 0"):
        UniqueIndex(0)
