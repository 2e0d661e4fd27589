"""The page of a running daemon in a real browser: it fills, and text of records stays text."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import ATTACK, Stream
from tests.support.pages.browser import open_page, wait_for

CARD = "article.card"


def pictures_loaded(page: Page) -> int:
    """How many of the uniques' own pictures are drawn."""
    count: int = page.evaluate(
        "[...document.querySelectorAll('img.picture')].filter((i) => i.naturalWidth > 0).length"
    )
    return count


def test_page_fills_while_the_daemon_decides(browser: Browser, stream: Stream) -> None:
    """Uniques, pictures and duplicates appear without a reload, and so does the status of the instance."""
    with open_page(browser, stream.address) as page:
        expect(page.locator("#empty")).to_have_text(
            "No unique record yet. New ones appear here as they are decided."
        )
        stream.send(60)
        expect(page.locator(CARD).first).to_be_visible()
        uniques = len(stream.deployment.events("unique"))
        expect(page.locator("#count")).to_have_text(str(uniques))
        expect(page.locator(CARD)).to_have_count(min(uniques, 48))
        wait_for(page, "document.querySelectorAll('img.picture').length > 0")
        wait_for(page, "[...document.querySelectorAll('img.picture')].every((i) => i.complete)")
        expect(page.locator(".strip img").first).to_be_visible()

        assert pictures_loaded(page) == min(uniques, 48)
        expect(page.locator("#role")).to_have_text("owner")
        expect(page.locator("#threshold")).to_have_text("0.7")
        expect(page.locator("#lag")).to_have_text("0")
        expect(page.locator(f"{CARD} .number").first).to_have_text(f"#{uniques - 1}")


def test_counts_of_duplicates_are_those_of_the_decisions(browser: Browser, stream: Stream) -> None:
    """Without losses the best-effort counts are complete."""
    stream.send(30, first=60)
    decisions = stream.deployment.events()
    counts = {
        event["sequence"]: sum(
            other["type"] == "duplicate" and other["nearest"]["sequence"] == event["sequence"]
            for other in decisions
        )
        for event in decisions
        if event["type"] == "unique"
    }
    most = max(counts, key=lambda sequence: counts[sequence])
    with open_page(browser, f"{stream.address}?id=%23{most}") as page:
        expect(page.locator(f"{CARD} .duplicates b")).to_have_text(str(counts[most]))


@pytest.mark.parametrize("view", ["cards", "table"])
def test_script_in_a_record_stays_text(browser: Browser, stream: Stream, view: str) -> None:
    """In labels, keys, and the whole event that a card opens; nothing of it becomes markup."""
    stream.send(6, first=90)
    with open_page(browser, f"{stream.address}?order=oldest&view={view}") as page:
        attacked = page.locator("[data-sequence]", has_text=ATTACK).first
        expect(attacked).to_be_visible()
        wait_for(page, f"document.querySelector('#label').textContent.includes({ATTACK!r})")
        attacked.locator("bdi").last.click()
        expect(page.locator("#detail pre")).to_contain_text("<img src=x onerror=")

        assert page.evaluate("window.attacked") is None
        assert page.locator("script").count() == 3
        assert page.locator("img[src=x]").count() == 0


def test_label_that_is_a_script_filters(browser: Browser, stream: Stream) -> None:
    """It works like any other name, in the list and in the address."""
    stream.send(6, first=100)
    with open_page(browser, stream.address) as page:
        expect(page.locator("#label option")).not_to_have_count(1)
        page.select_option("#label", label=page.locator("#label option", has_text="onerror").inner_text())
        expect(page.locator(f"{CARD} .class", has_text="disc")).to_have_count(0)
        expect(page.locator(f"{CARD} .class", has_text=ATTACK).first).to_be_visible()

        assert page.evaluate("new URLSearchParams(location.search).get('label')") == f"bar {ATTACK}"
        assert page.evaluate("window.attacked") is None
