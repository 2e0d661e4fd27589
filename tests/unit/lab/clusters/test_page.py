"""The page of clusters: what records say is text on it, and it loads and runs nothing."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from dugs_stream.lab.clusters.clusters import Clustering, Plan, cluster
from dugs_stream.lab.clusters.page import MOST_SECTIONS, render_page
from dugs_stream.lab.clusters.plane import lay_out
from dugs_stream.lab.clusters.uniques import Labels, MatrixRows, Uniques, labels_of
from dugs_stream.lab.listener import Listener
from dugs_stream.ops.gallery.thumbnails import Thumbnail, excerpt
from tests.support.oracles.unit_rows import unit_rows
from tests.support.pages.events import encoded_picture

ATTACK = '"><img src=x onerror=alert(1)><script>alert(2)</script>'


def hostile(count: int, thumbnails: dict[int, Thumbnail]) -> Uniques:
    """Uniques whose place, labels, ids and keys are markup."""

    def events_of(sequences: Sequence[int]) -> dict[int, dict[str, Any]]:
        return {
            each: {"id": f"{each}{ATTACK}", "source": {"key": f"key {each}{ATTACK}"}} for each in sequences
        }

    labels = Labels(np.zeros(count, np.int32), (f"label {ATTACK}",), "given")
    rows = MatrixRows(unit_rows(0, count, 8))
    return Uniques("export", ATTACK, rows, labels, None, events_of, lambda _wanted: thumbnails, (ATTACK,))


def found_in(uniques: Uniques, plan: Plan) -> Clustering:
    """Their categories."""
    return cluster(uniques, plan, Listener())


def test_markup_of_records_is_text_on_the_page() -> None:
    """Texts, keys, ids, labels, place and remarks; the policy allows no script, and no other host is named."""
    uniques = hostile(30, {each: excerpt(f"text {each}{ATTACK}") for each in range(0, 30, 2)})
    page = render_page(found_in(uniques, Plan(3, 3, False)), uniques)

    assert ATTACK not in page
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;alert(2)" in page
    assert "script-src" not in page
    assert "default-src 'none'" in page
    assert not re.search(r"(?:src|href)=\"(?!#|data:)", page)


def test_pictures_are_inside_the_page_and_edges_name_the_other_category() -> None:
    """A picture that is missing leaves the record's key."""
    pictures = {each: Thumbnail("image/png", encoded_picture()) for each in range(20)}
    uniques = hostile(30, pictures)
    clustering = found_in(uniques, Plan(2, 2, False))
    page = render_page(clustering, uniques)

    shown = {
        each.sequence
        for item in clustering.report.items
        for each in (item.medoid, *item.typical, *item.edges)
    }
    assert page.count("<img") == len(shown & set(pictures))
    assert page.count('class="unseen"') == len(shown - set(pictures))
    assert "At the edge" in page
    assert re.search(r"-?0\.\d\d · -?0\.\d\d to category [12]", page)
    assert page.count('id="category-') == 2


def test_smaller_categories_are_left_out_and_counted() -> None:
    """A category for each unique makes no endless page."""
    uniques = hostile(MOST_SECTIONS + 7, {})
    page = render_page(found_in(uniques, Plan(similarity=1.0)), uniques)

    assert page.count('<section class="category"') == MOST_SECTIONS
    assert "7 smaller categories are left out" in page


def test_heading_names_a_label_that_more_than_half_carry() -> None:
    """A label of two in five names no category; the table says that there are more labels than it shows."""
    names = [*"aabcd", *"zzzyx"]
    uniques = replace(
        hostile(10, {}), labels=labels_of([{"label": each, "label_source": "given"} for each in names])
    )
    rows = np.zeros((10, 8), np.float32)
    rows[:5, 0] = rows[5:, 1] = 1
    page = render_page(found_in(replace(uniques, rows=MatrixRows(rows)), Plan(2, 2, False)), uniques)

    assert re.findall(r"</span>(Category \d[^/]*)</", page) == ["Category 1", "Category 2: label <bdi>z"]
    assert "a (2), b (1), c (1), …" in page
    assert "z (3), x (1), y (1)<" in page


def test_figures_are_scrolled_where_they_do_not_fit() -> None:
    """A phone would shrink their text to half the size of what can be read."""
    uniques = hostile(12, {})
    page = render_page(found_in(uniques, Plan(2, 4)), uniques)

    assert page.count('<div class="frame"><svg class="figure') == page.count("<svg") == 2
    assert re.search(r"\.figure \{[^}]*min-width: \d+rem", page)


def test_table_has_labels_where_any_unique_has_one() -> None:
    """A column of dashes says nothing; without labels there is none."""
    with_labels = hostile(12, {})
    without = replace(with_labels, labels=labels_of([{"label": None}] * 12))
    headings = [
        "<th>labels</th>" in render_page(found_in(uniques, Plan(2, 2, False)), uniques)
        for uniques in (with_labels, without)
    ]

    assert headings == [True, False]


def test_map_is_by_umap_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless two principal directions are asked for; a handful of points is too few for it."""

    class Umap:
        def __init__(self, **settings: Any) -> None:
            assert (settings["metric"], settings["random_state"]) == ("cosine", 7)

        def fit_transform(self, vectors: np.ndarray) -> np.ndarray:
            return vectors[:, :2]

    module = ModuleType("umap")
    module.UMAP = Umap  # type: ignore[attr-defined]
    module.__spec__ = sys.__spec__  # only that there is one
    monkeypatch.setitem(sys.modules, "umap", module)
    rows = MatrixRows(unit_rows(0, 20, 8))

    assert lay_out(rows, "umap", 7).layout == "umap"
    assert lay_out(rows, "pca", 7).layout == "pca"
    assert lay_out(MatrixRows(unit_rows(0, 5, 8)), "umap", 7).layout == "pca"
