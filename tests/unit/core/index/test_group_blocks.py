"""Native kernel: the same answers on any number of threads, of mapped rows only what was verified, and another way where it gives up."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from dugs_stream.core.index import search
from dugs_stream.core.index.costs import followed_cost, lane_cost, product_cost
from dugs_stream.core.index.groups import Groups
from dugs_stream.core.index.prefix import Prefix, PrefixBasis
from dugs_stream.core.index.question import Nearest, Question, Work
from dugs_stream.core.index.rows import Rows as RowList
from dugs_stream.core.index.scan import scan
from dugs_stream.core.index.unique_index import UniqueIndex
from dugs_stream.core.threads import torch_threads
from dugs_stream.errors import DamagedRowsError
from tests.support.oracles.unit_rows import Rows, unit_rows

K = 64


@pytest.fixture(scope="module")
def group_blocks() -> ModuleType:
    """The module whose import compiles the kernel for seconds: not in every process that only collects these tests."""
    found: ModuleType = pytest.importorskip(
        "dugs_stream.core.index.group_blocks", reason="needs the extra fast"
    )
    return found


def steep_rows(seed: int, rows: int) -> Rows:
    """Rows whose energy lies in few directions."""
    drawn = np.random.default_rng(seed).standard_normal((rows, K)) * np.arange(1, K + 1) ** -1.5
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def prefix_over(rows: RowList) -> Prefix:
    prefix = Prefix(PrefixBasis(np.eye(K)[:, :15]))
    prefix.follow(rows)
    return prefix


def by_kernel(group_blocks: ModuleType, rows: RowList, question: Question) -> tuple[Nearest, Work]:
    """What the kernel finds and what it costs."""
    prefix, known = prefix_over(rows), Nearest.of_nothing(len(question.queries))
    work = group_blocks.GroupBlocks(Groups.of(prefix)).scan(question, prefix, rows, known)
    return known, work


@pytest.mark.parametrize("any_above", [True, False])
def test_number_of_threads_changes_no_answer_and_no_work(group_blocks: ModuleType, any_above: bool) -> None:
    """Each query is answered by itself: alone, in two halves or in four parts come the same rows by the same work."""
    listed = RowList(K)
    listed.add(steep_rows(1, 3_000))
    question = Question(steep_rows(2, 40), 0.98, any_above)
    plain = Nearest.of_nothing(40)
    scan(question, listed, plain)
    found = []
    for threads in (1, 2, 4):
        with torch_threads(threads):
            found.append(by_kernel(group_blocks, listed, question))

    for known, work in found:
        at = known.similarity >= 0.98
        assert np.array_equal(at, plain.similarity >= 0.98)
        assert np.array_equal(known.position[at], plain.position[at])
        assert np.array_equal(known.similarity[at], plain.similarity[at])
        assert work == found[0][1]
        assert 0 < work.followed < 0.1 * work.asked


def test_list_without_a_close_row_is_given_up_in_time(group_blocks: ModuleType) -> None:
    """A query whose rows no bound leaves out goes to the prefix scan before half a product of all rows is lost with it."""
    listed = RowList(K)
    listed.add(unit_rows(3, 2_000, K))
    question = Question(unit_rows(4, 20, K))

    known, work = by_kernel(group_blocks, listed, question)

    plain = Nearest.of_nothing(20)
    scan(question, listed, plain)
    assert np.array_equal(known.position, plain.position)
    assert np.array_equal(known.similarity, plain.similarity)
    lost = work.followed * followed_cost(K) + work.lanes * lane_cost(15)
    assert lost < 0.5 * work.asked * product_cost(K)
    assert work.full > 0


def test_equal_rows_that_find_no_room_are_left_to_the_prefix(
    group_blocks: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every row of a list could be the answer: memory stays bounded, and the earliest is named."""
    monkeypatch.setattr(group_blocks, "_PAIRS", 3)
    monkeypatch.setattr(group_blocks, "_PAIRS_A_QUERY", 0)
    row, listed = unit_rows(5, 1, K), RowList(K)
    listed.add(np.repeat(row, 300, axis=0))

    known, work = by_kernel(group_blocks, listed, Question(row))

    assert known.position.tolist() == [0]
    assert work.bounded == 300  # by the prefix, after the kernel had no room


def test_rows_of_a_file_are_read_only_after_their_block_was_verified(
    group_blocks: ModuleType, tmp_path: Path
) -> None:
    """A damaged row that a query needs is an error and not an answer; other queries are answered."""
    rows = steep_rows(6, 3_000)
    saved = UniqueIndex(K, prefix_from=None)
    saved.add(rows)
    saved.save(tmp_path)
    file = next(tmp_path.glob("*.f32"))
    with file.open("r+b") as opened:
        opened.seek(2_500 * 4 * K)
        opened.write(rows[0].tobytes())
    listed = UniqueIndex.load(tmp_path, prefix_from=None)._rows
    mapped = RowList(K)
    mapped.add(rows)
    prefix = prefix_over(mapped)
    blocks = group_blocks.GroupBlocks(Groups.of(prefix))

    known = Nearest.of_nothing(1)
    blocks.scan(Question(rows[10:11], 0.999_999), prefix, listed, known)
    assert known.position.tolist() == [10]
    with pytest.raises(DamagedRowsError):
        blocks.scan(Question(rows[2_500:2_501], 0.999_999), prefix, listed, Nearest.of_nothing(1))


def test_without_numba_groups_are_searched_by_torch(
    group_blocks: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The extra is a matter of speed: without it the index takes the other way, also where it was asked for."""
    listed = RowList(K)
    listed.add(steep_rows(7, 200))
    groups = Groups.of(prefix_over(listed))
    assert isinstance(search._blocks_of(groups), group_blocks.GroupBlocks)

    monkeypatch.setitem(sys.modules, "dugs_stream.core.index.group_blocks", None)

    assert search._blocks_of(groups) is None


def test_torch_keeps_its_number_of_threads(group_blocks: ModuleType) -> None:
    """The kernel computes on threads of its own and sets nothing that gradients are computed with."""
    before = torch.get_num_threads()
    listed = RowList(K)
    listed.add(steep_rows(8, 500))

    by_kernel(group_blocks, listed, Question(steep_rows(9, 64)))

    assert torch.get_num_threads() == before
