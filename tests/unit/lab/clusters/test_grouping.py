"""Grouping of unit rows: k-means by cosine, the number of categories, average linkage, examples, agreement."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from dugs_stream.core.index.rows import Rows
from dugs_stream.errors import ConfigurationError, StateError
from dugs_stream.lab.clusters import average_linkage as linkage
from dugs_stream.lab.clusters import clusters, plane
from dugs_stream.lab.clusters import spherical_kmeans as kmeans
from dugs_stream.lab.clusters.agreement import agreement
from dugs_stream.lab.clusters.assignment import assignment_of, directions
from dugs_stream.lab.clusters.category_count import between, candidates
from dugs_stream.lab.clusters.clusters import Clustering, Plan, cluster
from dugs_stream.lab.clusters.examples import choose_examples
from dugs_stream.lab.clusters.plane import lay_out
from dugs_stream.lab.clusters.report import Report
from dugs_stream.lab.clusters.uniques import UNLABELLED, Absorbed, Labels, MatrixRows, Uniques, labels_of
from dugs_stream.lab.listener import Listener
from tests.support.oracles.unit_rows import unit_rows

GROUPS = 5


def grouped_rows(
    count: int, spread: float = 0.5, dimension: int = 16
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Rows around five directions, and the number of each one's direction."""
    random = np.random.default_rng(3)
    group = random.integers(GROUPS, size=count).astype(np.int32)
    noise = random.normal(size=(count, dimension)) * spread / np.sqrt(dimension)
    rows = unit_rows(1, GROUPS, dimension)[group] + noise
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), group


def uniques_of(rows: NDArray[np.float32], labels: NDArray[np.int32] | None = None) -> Uniques:
    """Uniques with these vectors; without labels no event has one."""
    count = len(rows)
    of = np.full(count, UNLABELLED, np.int32) if labels is None else labels
    names = tuple(str(number) for number in range(int(of.max(initial=-1)) + 1))
    return Uniques(
        "state",
        "a folder",
        MatrixRows(rows),
        Labels(of, names, None if labels is None else "given"),
        Absorbed(np.ones(count, np.int64), "decisions"),
        lambda sequences: {each: {"id": f"samples/0/{each}", "source": {"key": None}} for each in sequences},
    )


def clustering_of(rows: NDArray[np.float32], plan: Plan | None = None, **keywords: object) -> Clustering:
    """The result for rows without labels."""
    return cluster(uniques_of(rows), plan or Plan(), Listener(**keywords))  # type: ignore[arg-type]


def as_partition(category: NDArray[np.int32]) -> set[frozenset[int]]:
    """Which rows are together, whatever the categories are called."""
    return {frozenset(np.flatnonzero(category == each).tolist()) for each in np.unique(category)}


@pytest.mark.parametrize("is_long", [False, True])
def test_categories_are_the_directions_that_rows_lie_around(
    monkeypatch: pytest.MonkeyPatch, is_long: bool
) -> None:
    """By all rows together, and by mini-batches of a list in several parts."""
    rows, group = grouped_rows(600)
    if is_long:
        monkeypatch.setattr(kmeans, "MINI_BATCHES_FROM", 500)
        monkeypatch.setattr(kmeans, "_MINI_BATCH_ROWS", 64)
    parts = Rows(rows.shape[1])
    parts.add(rows)

    assert as_partition(kmeans.spherical_kmeans(parts, GROUPS, seed=0)) == as_partition(group)


def test_every_row_is_nearest_to_its_own_centre_by_cosine() -> None:
    """What spherical k-means ends with; centres have unit length and are the mean directions of their rows."""
    rows = unit_rows(5, 300, 8)
    found = assignment_of(MatrixRows(rows), kmeans.spherical_kmeans(MatrixRows(rows), 7, seed=1))

    products = rows @ found.centres.T
    assert np.array_equal(np.argmax(products, axis=1), found.category)
    np.testing.assert_allclose(np.linalg.norm(found.centres, axis=1), 1, atol=1e-6)
    sums = np.stack([rows[found.category == each].sum(axis=0) for each in range(found.categories)])
    np.testing.assert_allclose(found.centres, directions(sums.astype(np.float64)), atol=1e-5)
    assert found.sizes.tolist() == sorted(found.sizes.tolist(), reverse=True)


def test_one_seed_is_one_answer() -> None:
    """The whole report, measurements apart."""
    rows = unit_rows(5, 200, 8)
    first, second = (clustering_of(rows, Plan(2, 6, False)).report for _ in range(2))

    fixed = {"seconds": 0.0, "peak_memory_bytes": 0}
    assert first.model_copy(update=fixed) == second.model_copy(update=fixed)


def test_number_of_categories_is_the_one_of_the_best_silhouette() -> None:
    """Groups far apart are counted right, and the curve says how clear that is."""
    report = clustering_of(grouped_rows(300)[0]).report

    assert report.categories == GROUPS
    best = max(report.silhouettes, key=lambda each: each.silhouette)
    assert best.categories == GROUPS
    assert best.silhouette > 0.5
    assert report.remarks == ["no unique has a label, so there is neither purity nor adjusted Rand index"]


def test_list_without_groups_says_so() -> None:
    """A number is chosen all the same, with a remark."""
    remarks = clustering_of(unit_rows(2, 150, 64)).report.remarks

    assert any("lie in no clear groups" in each for each in remarks)


@pytest.mark.parametrize("rows_a_round", [1_000, 50])
def test_average_linkage_finds_categories_without_a_number(
    monkeypatch: pytest.MonkeyPatch, rows_a_round: int
) -> None:
    """In one round, and in rounds of which later rows join what earlier ones formed."""
    monkeypatch.setattr(linkage, "ROWS_A_ROUND", rows_a_round)
    rows, group = grouped_rows(300)

    report = clustering_of(rows, Plan(similarity=0.5)).report
    category, merged = linkage.average_linkage(MatrixRows(rows), 0.5, 0, lambda _done, _total: None)
    assert (report.categories, report.method.categories) == (GROUPS, None)
    assert merged == 300
    assert as_partition(category) == as_partition(group)


def test_similarity_that_no_pair_reaches_leaves_each_row_alone() -> None:
    """And one that all reach makes one category."""
    rows = unit_rows(4, 40, 64)
    alone = clustering_of(rows, Plan(similarity=0.99)).report
    assert alone.categories == 40
    assert "each is a category of its own: ask for less" in alone.remarks[0]
    together = clustering_of(rows, Plan(similarity=-1.0)).report
    assert together.categories == 1
    assert not any("of its own" in remark for remark in together.remarks)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_shortest_lists_have_categories(count: int) -> None:
    """One unique is one category, by either way, and lies on the map."""
    rows = unit_rows(0, count, 8)
    for plan in (Plan(), Plan(count, count, False), Plan(similarity=0.5)):
        found = clustering_of(rows, plan)
        assert sum(item.uniques for item in found.report.items) == count
        assert len(found.plane.points) == count


def test_equal_vectors_are_one_category() -> None:
    """Whatever number is asked for, and the remark says why."""
    rows = np.repeat(unit_rows(0, 1, 8), 30, axis=0)
    for plan, said in (
        (Plan(), "are equal"),
        (Plan(4, 4, False), "4 categories were asked for and 1 found: no more uniques than 1 are distinct"),
    ):
        report = clustering_of(rows, plan).report
        assert report.categories == 1
        assert any(said in each for each in report.remarks)
    assert clustering_of(rows, Plan(similarity=0.5)).report.categories == 1


def test_categories_that_lost_their_uniques_are_not_called_equal_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A long list's centres may end empty although all of its rows are distinct."""
    rows = np.eye(6, 8, dtype=np.float32)
    monkeypatch.setattr(
        clusters, "spherical_kmeans", lambda *_, **__: np.array([0, 0, 1, 1, 2, 2], dtype=np.int32)
    )

    report = cluster(uniques_of(rows), Plan(4, 4, False), Listener()).report

    assert (
        "4 categories were asked for and 3 found: the others lost all their uniques to nearer ones"
        in report.remarks
    )


def test_more_categories_than_uniques_and_no_unique_are_refused() -> None:
    """The message names both numbers."""
    with pytest.raises(ConfigurationError, match="5 categories of 4 uniques"):
        clustering_of(unit_rows(0, 4, 8), Plan(5, 5, False))
    with pytest.raises(StateError, match="a folder holds no unique"):
        clustering_of(np.empty((0, 8), np.float32))


def test_interrupt_while_choosing_takes_the_best_so_far() -> None:
    """The curve holds what was tried."""
    report = clustering_of(grouped_rows(200)[0], Plan(2, 30, False), wants_stop=lambda: True).report

    assert [each.categories for each in report.silhouettes] == [2]
    assert report.categories == 2
    assert report.interrupted == "choosing the number of categories: 1 of 22 were tried"


def test_interrupt_while_merging_lets_the_rest_join_what_is_most_similar(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a round of twenty; the report says how many had merged, and no unique is without a category."""
    monkeypatch.setattr(linkage, "ROWS_A_ROUND", 20)
    rows, group = grouped_rows(300, spread=1.2)
    found = clustering_of(rows, Plan(similarity=0.5), wants_stop=lambda: True)
    merged = linkage.average_linkage(
        MatrixRows(rows), 0.5, 0, lambda _done, _total: None, lambda: True
    ).merged

    assert 20 < merged < 300
    assert found.report.interrupted == (
        f"merging: {merged} of 300 uniques were merged, the others joined the most similar category"
    )
    assert np.array_equal(np.unique(found.assignment.category), np.arange(found.report.categories))
    assert agreement(found.assignment.category, Labels(group, tuple("01234"), "given")).purity > 0.8  # type: ignore[union-attr]


def test_interrupt_while_a_long_list_is_grouped_ends_the_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one counts; a map takes no UMAP's minutes after it."""
    monkeypatch.setattr(kmeans, "MINI_BATCHES_FROM", 100)
    monkeypatch.setattr(clusters, "MINI_BATCHES_FROM", 100)
    monkeypatch.setattr(plane, "umap_is_installed", lambda: True)
    rounds: list[int] = []
    nearest = kmeans.nearest_centres
    monkeypatch.setattr(kmeans, "nearest_centres", lambda *given: (rounds.append(1), nearest(*given))[1])
    found = clustering_of(grouped_rows(200)[0], Plan(5, 5, False), wants_stop=lambda: True)

    assert len(rounds) == 1
    assert found.report.interrupted == "grouping: some uniques may lie nearer to another category"
    assert (found.report.categories, found.plane.layout) == (5, "pca")


def test_after_an_interrupted_reading_numbers_are_tried_while_patience_lasts() -> None:
    """The wish to stop was heard and ends nothing more; the clock does."""
    uniques, stopped = uniques_of(grouped_rows(200)[0]), Listener(wants_stop=lambda: True)
    none, whole = (
        cluster(
            uniques, Plan(2, 9, False), stopped, "reading", clock=itertools.count(0, seconds).__next__
        ).report
        for seconds in (100, 0)
    )

    assert none.interrupted == "reading, and choosing the number of categories: 1 of 8 were tried"
    assert (whole.interrupted, whole.categories) == ("reading", GROUPS)


def test_more_categories_than_anybody_looks_through_are_refused() -> None:
    """Of a number and of a range, before a unique is read; what a similarity finds is not bounded."""
    for plan in (Plan(1_001, 1_001, False), Plan(2, 10**6, False)):
        with pytest.raises(ConfigurationError, match="are more than 1,000"):
            clustering_of(np.empty((0, 8), np.float32), plan)
    assert clustering_of(unit_rows(0, 4, 8), Plan(2, 10**6, similarity=0.5)).report.categories


def test_numbers_that_are_tried_begin_and_end_the_range() -> None:
    """Each one at first, then a tenth apart; around the best, those between."""
    tried = candidates(2, 40)
    assert tried[:3] == [2, 3, 4]
    assert tried[-1] == 40
    assert candidates(7, 7) == [7]
    assert candidates(5, 4) == []
    assert between(tried, 40) == list(range(tried[-2] + 1, 40))
    assert between([2, 3], 2) == []
    far_apart = candidates(2, 1_000)
    some = between(far_apart, far_apart[-2])
    assert len(some) <= 16
    assert far_apart[-3] < some[0] < far_apart[-2] < some[-1] < 1_000


def test_examples_are_the_medoid_the_typical_and_the_edge() -> None:
    """The medoid has the highest mean cosine to all members; edges have the smallest margin to another centre."""
    rows, _ = grouped_rows(200, spread=1.0)
    found = assignment_of(MatrixRows(rows), kmeans.spherical_kmeans(MatrixRows(rows), GROUPS, 0))
    for place, chosen in enumerate(choose_examples(found, typical=3, edges=4)):
        members = np.flatnonzero(found.category == place)
        means = (rows[members] @ rows[members].T).mean(axis=1)
        margin = found.similarity - found.other_similarity
        assert chosen.medoid == members[np.argmax(means)]
        assert len(set(chosen.all)) == 8
        left = set(members.tolist()) - {chosen.medoid, *chosen.typical}
        assert margin[list(chosen.edges)].tolist() == sorted(margin[list(left)].tolist())[:4]


def test_purity_and_adjusted_rand_leave_out_what_has_no_label() -> None:
    """Against hand-counted values: three of four labelled rows agree."""
    category = np.array([0, 0, 0, 1, 1], np.int32)
    labels = Labels(np.array([0, 0, 1, 1, UNLABELLED], np.int32), ("a", "b"), "given")

    found = agreement(category, labels)
    assert found is not None
    assert (found.labelled, found.classes, found.purity) == (4, 2, 0.75)
    assert agreement(category, Labels(np.full(5, UNLABELLED, np.int32), (), None)) is None


def test_given_labels_outrank_predicted_ones() -> None:
    """Predicted ones count where none is given; names where there are names."""
    given = {"label": 1, "label_name": "cat", "label_source": "given"}
    predicted = {"label": 0, "label_source": "predicted"}
    none = {"label": None, "label_source": None}

    mixed, guessed = labels_of([given, predicted, none, given]), labels_of([predicted, none])
    assert (mixed.of.tolist(), mixed.names, mixed.source) == ([0, -1, -1, 0], ("cat",), "given")
    assert (guessed.of.tolist(), guessed.names, guessed.source) == ([0, -1], ("0",), "predicted")


def test_report_counts_labels_and_duplicates() -> None:
    """Each unique absorbed one duplicate, and carries its direction's label."""
    rows, group = grouped_rows(200)
    report: Report = cluster(uniques_of(rows, group), Plan(GROUPS, GROUPS, False), Listener()).report

    assert report.agreement is not None
    assert (report.agreement.purity, report.agreement.adjusted_rand) == (1.0, 1.0)
    assert [item.duplicates for item in report.items] == [item.uniques for item in report.items]
    assert {item.name for item in report.items} == {"0", "1", "2", "3", "4"}


def test_map_by_principal_directions_keeps_the_largest_variance() -> None:
    """Rows in a plane lie on the map as they do there."""
    flat = np.zeros((50, 16), np.float32)
    angle = np.linspace(0, 2 * np.pi, 50, endpoint=False)
    flat[:, 3], flat[:, 9] = np.cos(angle), np.sin(angle)

    plane = lay_out(MatrixRows(flat), "pca", 0)
    assert plane.share == pytest.approx(1.0)
    np.testing.assert_allclose(np.linalg.norm(plane.points, axis=1), 1.0, atol=1e-5)
