"""Choice of the way to search: a prefix that pays, a graph that pays, and what is reported of both."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dugs_stream.core.index import groups, products
from dugs_stream.core.index.graph_policy import GraphPolicy
from dugs_stream.core.index.group_scan import scan_by_groups
from dugs_stream.core.index.groups import Groups
from dugs_stream.core.index.prefix import Prefix, PrefixBasis
from dugs_stream.core.index.question import Nearest, Question
from dugs_stream.core.index.rows import Rows as RowList
from dugs_stream.core.index.scan import scan
from dugs_stream.core.index.unique_index import UniqueIndex
from tests.support.oracles.unit_rows import Rows, unit_rows

K = 256


def steep_rows(seed: int, rows: int) -> Rows:
    """Rows whose energy lies in few directions."""
    drawn = np.random.default_rng(seed).standard_normal((rows, K)) * np.arange(1, K + 1) ** -1.5
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def asked(index: UniqueIndex, queries: Rows, threshold: float, times: int = 1) -> UniqueIndex:
    for _ in range(times):
        index.nearest(queries, threshold=threshold)
    return index


def test_steep_list_gets_a_prefix_once_it_was_asked_about_and_isotropic_rows_none() -> None:
    """The first questions go to the plain scan; the report says which way answers and what it touches."""
    for rows, threshold, expected in (
        (steep_rows(1, 400), 0.995, "prefix"),
        (unit_rows(1, 400, K), 0.1, "ground"),
    ):
        queries = rows[:40] if expected == "prefix" else unit_rows(2, 40, K)
        index = UniqueIndex(K, prefix_from=300)
        index.add(rows)
        before = asked(index, queries, threshold).report()
        after = asked(index, queries, threshold, times=2).report()

        assert set(before.strategies.values()) == {"ground"}
        assert set(after.strategies.values()) == {expected}
        assert (after.queries, after.rows, after.dimension, after.graph_rows) == (120, 400, K, 0)
        assert after.bytes["rows"] == 400 * K * 4
        assert (after.bytes["prefix"] > 0) == (expected == "prefix") == (after.prefix_dimensions > 0)
        assert (after.rows_touched < 400) == (expected == "prefix")


def test_prefix_that_loses_is_dropped() -> None:
    """A prefix of useless directions costs a product more than the plain scan: thousands of queries later it is gone."""
    rows = unit_rows(2, 300, 64)
    listed = RowList(64)
    listed.add(rows)
    prefix = Prefix(PrefixBasis(np.eye(64)[:, :1]))
    prefix.follow(listed)
    index = UniqueIndex(64, prefix_from=200)
    index.add(rows)
    assert index.take_prefix(prefix)

    asked(index, unit_rows(3, 1_000, 64), 0.0, times=3)

    assert index.prefix is None


def test_prefix_of_other_rows_is_refused() -> None:
    """Another dimension, a longer list, another last row, or no prefix wanted: nothing is taken up."""
    listed = RowList(64)
    listed.add(unit_rows(4, 20, 64))
    prefix = Prefix(PrefixBasis(np.eye(64)[:, :4]))
    prefix.follow(listed)
    for rows, keywords in (
        (unit_rows(4, 20, 32), {}),
        (unit_rows(4, 20, 64)[:10], {}),
        (unit_rows(5, 20, 64), {}),
        (unit_rows(4, 20, 64), {"prefix_from": None}),
    ):
        index = UniqueIndex(rows.shape[1], **keywords)  # type: ignore[arg-type]
        index.add(rows)
        assert not index.take_prefix(prefix)
        assert index.prefix is None


def test_basis_that_is_not_orthonormal_is_refused() -> None:
    """The bound holds for a measured defect only; a damaged basis, or a row length that is not its own, is named."""
    with pytest.raises(ValueError, match="miss orthonormality by"):
        PrefixBasis(np.eye(8)[:, :2] * 1.001)
    with pytest.raises(ValueError, match="miss orthonormality by nan"):
        PrefixBasis(np.full((8, 2), np.nan))
    with pytest.raises(ValueError, match="prefix rows of length 5 to a basis of 2"):
        Prefix.restored(np.eye(8)[:, :2], RowList(5))


def test_graph_is_wanted_once_it_would_have_paid_for_its_links_and_dropped_when_it_does_not() -> None:
    """Dear scans of duplicates earn it; cheap scans, uniques and guesses that miss do not."""
    policy = GraphPolicy()
    policy.after_scan(
        queries=100, settled=100, cost=100 * 5_000.0, rows=1_000
    )  # a guess costs more than that
    policy.after_scan(queries=100, settled=0, cost=100 * 90_000.0, rows=1_000)  # nothing but uniques
    assert not policy.wants_graph

    policy.after_scan(queries=2_000, settled=2_000, cost=2_000 * 90_000.0, rows=1_000)
    assert policy.wants_graph

    policy.after_guesses(queries=100_000, hits=0)
    assert not policy.wants_graph


def test_index_without_dear_scans_has_no_graph() -> None:
    """By default there is none until it pays, also if the verdict is all that is asked."""
    index = UniqueIndex(K)
    index.add(steep_rows(6, 500))
    for _ in range(3):
        index.nearest(steep_rows(7, 50), threshold=0.9, mode="decision")
        index.add(steep_rows(8, 1))

    assert index.report().bytes["graph"] == 0


def test_unknown_mode_or_a_missing_threshold_is_refused() -> None:
    """The message names what was given and what is expected."""
    index = UniqueIndex(4)
    with pytest.raises(ValueError, match="mode is 'best', expected 'nearest', 'bound' or 'decision'"):
        index.nearest(unit_rows(0, 1, 4), 0.3, mode="best")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mode 'decision' needs a threshold"):
        index.nearest(unit_rows(0, 1, 4), mode="decision")


def test_products_are_float32_where_the_process_allows_torch_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """By numpy then: the bounds hold for float32 products alone. The process's setting is left as it is."""
    left, right = torch.from_numpy(unit_rows(9, 3, 64)), torch.from_numpy(unit_rows(10, 5, 64))
    expected = left.numpy() @ right.numpy().T
    monkeypatch.setattr(products, "_FULL_PRECISION", ("no setting at all",))
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "medium")

    assert np.array_equal(products.all_products(left, right).numpy(), expected)


def test_read_only_rows_are_multiplied_where_they_lie() -> None:
    """A tensor of a mapped or frozen array is the same memory, without a warning from torch."""
    rows = unit_rows(11, 3, 8)
    rows.flags.writeable = False

    assert products.tensor_of(rows).data_ptr() == rows.ctypes.data


def test_list_that_grew_is_grouped_again_by_its_new_rows_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Directions stay and earlier rows keep their groups; what is found is what a grouping of all rows would find."""
    rows, listed = steep_rows(12, 600), RowList(K)
    prefix = Prefix(PrefixBasis(np.eye(K)[:, :15]))
    listed.add(rows[:400])
    prefix.follow(listed)
    first = Groups.of(prefix)
    listed.add(rows[400:])
    prefix.follow(listed)
    monkeypatch.setattr(groups, "_directions", None)  # they take most of the time, and are not made again

    grown = Groups.of(prefix, first.grouping)

    assert np.array_equal(grown.grouping.group[:400], first.grouping.group)
    assert sorted(grown.order.tolist()) == list(range(600))
    question, known, plain = Question(rows[395:405]), Nearest.of_nothing(10), Nearest.of_nothing(10)
    scan_by_groups(question, grown, prefix, listed, known)
    scan(question, listed, plain)
    assert np.array_equal(known.position, plain.position)
    assert np.array_equal(known.similarity, plain.similarity)
