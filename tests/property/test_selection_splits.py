"""The law of the greedy choice: how a stream is cut into batches changes nothing."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dugs_stream.core.index.unique_index import UniqueIndex
from dugs_stream.core.selection import select
from dugs_stream.records import Verdict
from tests.support.oracles.unit_rows import at_cosine, naive_selection, naive_similarity, unit_rows

OFFSETS = (0.0, 1e-9, -1e-9, 1e-6, -1e-6, 0.2, -0.2)


@st.composite
def streams(draw):
    """Rows of which many repeat an earlier one or lie within a hair of τ from it, and what has no direction."""
    seed, dimension = draw(st.integers(0, 2**16)), draw(st.sampled_from([1, 2, 6, 40]))
    threshold = draw(st.sampled_from([0.3, 0.7, 0.0, 1.0]))
    rows = [unit_rows(seed, 1, dimension)[0]]
    for place in range(draw(st.integers(0, 20))):
        anchor = rows[draw(st.integers(0, len(rows) - 1))]
        kind = draw(st.sampled_from(["copy", "new", *OFFSETS]))
        if kind == "copy":
            rows.append(anchor)
        elif kind == "new":
            rows.append(unit_rows(seed + place + 1, 1, dimension)[0])
        else:
            rows.append(at_cosine(anchor, min(1.0, threshold + kind), seed + place))
    if len(rows) > 1 and draw(st.booleans()):  # τ that is met exactly
        threshold = min(naive_similarity(rows[0], rows[1]), 1.0)
    norms = draw(
        st.lists(st.sampled_from([1.0, 1.0, 1.0, 0.0, np.nan]), min_size=len(rows), max_size=len(rows))
    )
    cuts = draw(st.lists(st.integers(0, len(rows)), max_size=6))
    return np.stack(rows), np.array(norms), threshold, cuts


GRAPH = {"graph_from": 2, "ask_graph_from": 3}


def streamed(rows, norms, threshold, cuts, explain="nearest", **keywords):
    """Decisions of a whole stream that arrives in batches cut at `cuts`."""
    index, decisions = UniqueIndex(rows.shape[1], **keywords), []
    edges = sorted({0, len(rows), *cuts})
    for start, stop in itertools.pairwise(edges):
        batch = rows[start:stop].copy()
        batch[~(norms[start:stop] > 0)] = 0
        made = select(index, batch, norms[start:stop], threshold=threshold, explain=explain)
        index.add(batch[[decision.verdict is Verdict.UNIQUE for decision in made]])
        decisions += made
    return decisions


@given(streams())
def test_any_batch_split_gives_the_naive_loop(stream):
    """Verdict, similarity, nearest and sequence are those of one record at a time in float64."""
    rows, norms, threshold, cuts = stream
    usable = norms > 0
    decisions = streamed(rows, norms, threshold, cuts, **GRAPH)
    judged = [decision for decision, is_usable in zip(decisions, usable, strict=True) if is_usable]

    expected = naive_selection(rows[usable], threshold)
    assert [(d.verdict is Verdict.UNIQUE, d.similarity, d.nearest) for d in judged] == expected
    numbers = [decision.sequence for decision in judged if decision.verdict is Verdict.UNIQUE]
    assert numbers == list(range(len(numbers)))


@given(streams())
def test_what_has_no_direction_gets_its_verdict_in_any_split(stream):
    """Zero and not finite gradients keep their verdicts and their places."""
    rows, norms, threshold, cuts = stream
    decisions = streamed(rows, norms, threshold, cuts)

    for norm, decision in zip(norms, decisions, strict=True):
        assert (decision.verdict is Verdict.NO_GRADIENT) == (norm == 0)
        assert (decision.verdict is Verdict.REJECTED) == bool(np.isnan(norm))


@given(streams())
def test_bound_changes_no_verdict(stream):
    """explain=bound decides as explain=nearest does, explains duplicates alike, and bounds uniques from above."""
    rows, norms, threshold, cuts = stream
    exact = streamed(rows, norms, threshold, [])
    bounded = streamed(rows, norms, threshold, cuts, explain="bound", **GRAPH)

    for precise, decision in zip(exact, bounded, strict=True):
        assert (decision.verdict, decision.sequence) == (precise.verdict, precise.sequence)
        if decision.verdict is Verdict.UNIQUE and decision.sequence > 0:
            assert (decision.similarity, decision.nearest) == (None, None)
            assert precise.similarity <= decision.similarity_bound < threshold
        elif decision.verdict is Verdict.DUPLICATE:
            assert decision == precise


@given(streams(), st.booleans())
def test_decision_changes_no_verdict_and_names_the_earliest_in_any_split(stream, has_graph):
    """explain=decision decides as explain=nearest does; a duplicate names the first unique at which it is one."""
    rows, norms, threshold, cuts = stream
    exact = streamed(rows, norms, threshold, [])
    decided = streamed(rows, norms, threshold, cuts, explain="decision", **(GRAPH if has_graph else {}))

    uniques = [row for row, decision in zip(rows, exact, strict=True) if decision.verdict is Verdict.UNIQUE]
    for row, precise, decision in zip(rows, exact, decided, strict=True):
        assert (decision.verdict, decision.sequence) == (precise.verdict, precise.sequence)
        if decision.verdict is not Verdict.DUPLICATE or decision == precise:
            continue
        above = [place for place, unique in enumerate(uniques) if naive_similarity(unique, row) >= threshold]
        assert decision.nearest in (above if has_graph else above[:1])
        assert decision.similarity == min(naive_similarity(uniques[decision.nearest], row), 1.0)
