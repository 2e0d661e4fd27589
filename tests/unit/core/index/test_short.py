"""Short lists: which lists are, and rows in several parts."""

from __future__ import annotations

import numpy as np
import pytest

from dugs_stream.core.index.mapped import BlockDigests, MappedRows
from dugs_stream.core.index.question import Nearest, Question
from dugs_stream.core.index.rows import Rows
from dugs_stream.core.index.short import is_short, search_few
from tests.support.oracles.unit_rows import naive_nearest, unit_rows


@pytest.mark.parametrize(
    ("rows", "queries", "expected"),
    [(0, 1, False), (1, 1, True), (4_096, 256, True), (4_096, 257, False), (4_097, 1, False)],
)
def test_short_is_what_one_product_in_cache_answers(rows: int, queries: int, expected: bool) -> None:
    """Some thousand rows, fewer for more queries than a micro-batch has, and at least one."""
    listed = Rows(1)
    listed.add(np.ones((rows, 1), dtype=np.float32))

    assert is_short(listed, queries) is expected


@pytest.mark.parametrize("queries", [1, 5, 20])
def test_rows_of_a_file_and_rows_of_this_run_are_searched_as_one_list(queries: int) -> None:
    """After a restart a short list has two parts; the products of any number of queries are put together."""
    rows, asked = unit_rows(60, 30, 48), unit_rows(61, queries, 48)
    digests = BlockDigests()
    digests.update(rows[:12])
    listed = Rows(48)
    listed.map(MappedRows(rows[:12], "rows", digests.digests))
    listed.add(rows[12:])
    known = Nearest.of_nothing(queries)

    search_few(Question(asked), listed, known)

    expected = [naive_nearest(rows, query) for query in asked]
    assert list(zip(known.similarity, known.position, strict=True)) == expected
