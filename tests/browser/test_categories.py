"""The page by the last saved clustering: a filter, and headings of categories, in a real browser."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from playwright.sync_api import Browser, expect

from dugs_stream.ops.gallery.recorder import GalleryRecorder
from dugs_stream.ops.gallery.saved_clustering import ClusteringFile, SavedClustering, save_clustering
from tests.browser.conftest import ATTACK
from tests.support.pages.browser import open_page
from tests.support.pages.server import event, page_server


def test_uniques_stand_below_the_headings_of_their_categories(browser: Browser, tmp_path: Path) -> None:
    """Names of categories come from records: they are text. Without a clustering there is nothing to choose."""
    gallery = GalleryRecorder()
    gallery.clustering = ClusteringFile(tmp_path, "list")
    with (
        page_server([event(number) for number in range(9)], gallery) as source,
        open_page(browser, source.address) as page,
    ):
        expect(page.locator("article.card")).to_have_count(9)
        expect(page.locator("#category-field")).to_be_hidden()
        save_clustering(
            tmp_path, SavedClustering("list", [f"disc {ATTACK}", None], np.array([0, 1] * 4, np.int32))
        )
        page.goto(f"{source.address}?order=category")

        headings = page.locator("h2.group")
        expect(headings).to_have_text([f"Category 1: label disc {ATTACK}", "Category 2", "Not grouped yet"])
        found = page.evaluate(
            "[...document.querySelector('#cards').children].map((n) => n.dataset.sequence ?? n.tagName)"
        )
        assert found == ["H2", "0", "2", "4", "6", "H2", "1", "3", "5", "7", "H2", "8"]
        page.select_option("#category", "2")
        expect(page.locator("article.card")).to_have_count(4)
        assert "category=2" in page.url
        page.keyboard.press("v")
        expect(page.locator("tr.group")).to_have_text(["Category 2"])
        page.locator("tr.group").click()
        page.keyboard.press("Escape")
        expect(page.locator("tr[data-sequence]")).to_have_count(9)
        assert page.evaluate("window.attacked") is None
