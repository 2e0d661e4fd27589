"""Laws of the exact search, on lists made to be difficult."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dugs_stream.core.index.unique_index import UniqueIndex
from tests.support.oracles.unit_rows import Rows, at_cosine, naive_nearest, unit_rows

THRESHOLD = 0.3
OFFSETS = (0.0, 1e-9, -1e-9, 1e-6, -1e-6, 1e-3)


Case = tuple[Rows, Rows]


@st.composite
def lists(draw: st.DrawFn) -> Case:
    """Rows with repetitions, and queries that copy a row or lie within a hair of τ from one."""
    seed, dimension = draw(st.integers(0, 2**16)), draw(st.sampled_from([1, 2, 5, 33, 130]))
    rows = unit_rows(seed, draw(st.integers(1, 24)), dimension)
    rows = rows[draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=30))]
    anchors = draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=8))
    offsets = draw(st.lists(st.sampled_from([None, *OFFSETS]), min_size=len(anchors), max_size=len(anchors)))
    queries = [
        rows[anchor] if offset is None else at_cosine(rows[anchor], THRESHOLD + offset, seed + place)
        for place, (anchor, offset) in enumerate(zip(anchors, offsets, strict=True))
    ]
    return rows, np.stack(queries)


class WildGuesses:
    """A graph whose guesses have nothing to do with the question."""

    def __init__(self, seed: int, rows: int) -> None:
        self._random = np.random.default_rng(seed)
        self.rows = rows

    def propose(self, queries: Rows) -> NDArray[np.int64]:
        return self._random.integers(-2, self.rows + 3, len(queries))


def filled(rows: Rows, **keywords: Any) -> UniqueIndex:
    index = UniqueIndex(rows.shape[1], **keywords)
    index.add(rows)
    return index


@given(lists())
def test_nearest_is_the_naive_loop(case: Case) -> None:
    """Every similarity and position is that of a float64 loop over the rows, bit for bit."""
    rows, queries = case
    similarity, position = filled(rows).nearest(queries)

    assert list(zip(similarity, position, strict=True)) == [naive_nearest(rows, query) for query in queries]


@given(lists(), st.booleans())
def test_threshold_keeps_what_reaches_it_and_bounds_the_rest(case: Case, at_a_tie: bool) -> None:
    """Exact if the maximum is ≥ τ, also when τ is that maximum; otherwise −1 and a bound in [maximum, τ)."""
    rows, queries = case
    threshold = naive_nearest(rows, queries[0])[0] if at_a_tie else THRESHOLD
    similarity, position = filled(rows).nearest(queries, threshold=threshold)

    for place, query in enumerate(queries):
        exact = naive_nearest(rows, query)
        if exact[0] >= threshold:
            assert (similarity[place], position[place]) == exact
        else:
            assert position[place] == -1
            assert exact[0] <= similarity[place] < threshold


@given(lists(), st.integers(0, 2**16), st.sampled_from([None, THRESHOLD]))
def test_graph_changes_no_answer(case: Case, seed: int, threshold: float | None) -> None:
    """No graph, a good one and a deliberately bad one give the same positions, and the same exact similarities."""
    rows, queries = case
    plain = filled(rows, graph_from=None).nearest(queries, threshold)
    helped = filled(rows, graph_from=1, ask_graph_from=1).nearest(queries, threshold)
    misled = filled(rows, graph_from=None, ask_graph_from=1)
    misled._graph = WildGuesses(seed, len(rows))  # type: ignore[assignment]
    misguided = misled.nearest(queries, threshold)

    for similarity, position in (helped, misguided):
        assert position.tolist() == plain[1].tolist()
        exact = position >= 0
        assert similarity[exact].tolist() == plain[0][exact].tolist()


@given(lists(), st.data())
def test_other_queries_change_no_answer(case: Case, data: st.DataObject) -> None:
    """A query's answer does not depend on the other queries, nor on how the rows were added."""
    rows, queries = case
    cut = data.draw(st.integers(0, len(rows)))
    index = filled(rows[:cut])
    index.add(rows[cut:])

    together = filled(rows).nearest(queries)
    alone = [index.nearest(query[None]) for query in queries]

    assert together[0].tolist() == [similarity[0] for similarity, _ in alone]
    assert together[1].tolist() == [position[0] for _, position in alone]
