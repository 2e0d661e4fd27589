"""HNSW graph: its guesses, its growth a little at a time, and its files, believed only if they fit."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from dugs_stream.core.index.hnsw import ProposalGraph
from dugs_stream.core.index.unique_index import _LINKED_ROWS_PER_CALL, UniqueIndex
from tests.support.oracles.unit_rows import Rows, unit_rows

ROWS = unit_rows(30, 200, 16)


def with_graph(rows: Rows = ROWS) -> UniqueIndex:
    index = UniqueIndex(16, graph_from=10, ask_graph_from=10)
    index.add(rows)
    return index


def linked(index: UniqueIndex) -> int:
    return 0 if index._graph is None else index._graph.rows


def test_graph_proposes_a_stored_row_for_itself() -> None:
    """On an easy list the guess is right, else it would be worth nothing."""
    graph = ProposalGraph(16)
    graph.add(ROWS)

    assert (graph.propose(ROWS) == np.arange(200)).mean() > 0.95


def test_empty_graph_proposes_nothing() -> None:
    """Without rows every guess is −1, not an error."""
    assert ProposalGraph(16).propose(ROWS[:3]).tolist() == [-1, -1, -1]


def test_graph_grows_beyond_its_first_capacity() -> None:
    """Capacity is grown before hnswlib would refuse the row."""
    graph = ProposalGraph(2)
    rows = unit_rows(31, 9_000, 2)
    graph.add(rows[:8_000])
    graph.add(rows[8_000:])

    assert graph.rows == 9_000


def test_adding_links_a_bounded_number_of_rows_a_call() -> None:
    """One call links few rows, even if many wait; calls without rows catch up too."""
    index = with_graph()
    seen = [linked(index)]
    while seen[-1] < 200:
        index.add(np.empty((0, 16), dtype=np.float32))
        seen.append(linked(index))

    assert max(np.diff([0, *seen])) <= _LINKED_ROWS_PER_CALL


@pytest.mark.parametrize("graph_from", [None, 201])
def test_short_list_has_no_graph(tmp_path: Path, graph_from: int | None) -> None:
    """Below the configured length, or switched off, no graph is built, saved or taken up."""
    index = UniqueIndex(16, graph_from=graph_from)
    index.add(ROWS)
    index.save(tmp_path)

    assert linked(index) == 0
    assert not list(tmp_path.glob("graph.*"))
    with_graph().save(tmp_path)
    assert linked(UniqueIndex.load(tmp_path, graph_from=None)) == 0


def test_saved_graph_is_taken_up_and_completed(tmp_path: Path) -> None:
    """A graph that covers a part of the rows goes on from there."""
    index = with_graph()
    index.save(tmp_path)
    covered = linked(index)

    loaded = UniqueIndex.load(tmp_path, graph_from=10, ask_graph_from=10)
    assert linked(loaded) == covered

    loaded.add(unit_rows(32, 1, 16))
    assert linked(loaded) == covered + _LINKED_ROWS_PER_CALL


@pytest.mark.parametrize("file", ["graph.hnsw", "graph.json"])
def test_damaged_graph_is_ignored_and_linked_anew(tmp_path: Path, file: str) -> None:
    """A graph file that is changed, cut, empty or missing costs speed, never an answer and never a start."""
    index = with_graph()
    index.save(tmp_path)
    whole = (tmp_path / file).read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 8]) + whole[middle + 1 :]

    for content in (flipped, whole[:-3], b"", None):
        (tmp_path / file).unlink() if content is None else (tmp_path / file).write_bytes(content)
        loaded = UniqueIndex.load(tmp_path, graph_from=10, ask_graph_from=10)
        assert linked(loaded) == 0
        loaded.add(np.empty((0, 16), dtype=np.float32))
        assert linked(loaded) == _LINKED_ROWS_PER_CALL
        assert loaded.nearest(ROWS)[1].tolist() == index.nearest(ROWS)[1].tolist()


@pytest.mark.parametrize("foreign", ["rows", "length", "dimension"])
def test_foreign_graph_is_ignored(tmp_path: Path, foreign: str) -> None:
    """An intact graph of other rows, of a longer list, or of other dimensions is not taken up."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    with_graph(ROWS[:100]).save(ours)
    other = UniqueIndex(8 if foreign == "dimension" else 16, graph_from=10)
    other.add(unit_rows(33, 100, other.dimension))
    for _ in range(4 if foreign == "length" else 0):
        other.add(unit_rows(34, 30, 16))
    other.save(theirs)
    for file in ("graph.hnsw", "graph.json"):
        shutil.copy(theirs / file, ours / file)

    loaded = UniqueIndex.load(ours, graph_from=10)

    assert linked(loaded) == 0
