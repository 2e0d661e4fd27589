"""The page of a list with values: order and filter by them, in a real browser; without a target there is nothing of it."""

from __future__ import annotations

from playwright.sync_api import Browser, expect

from tests.support.pages.browser import open_page
from tests.support.pages.server import event, page_server


def test_uniques_are_ordered_and_filtered_by_value(browser: Browser) -> None:
    """The highest first, in cards and rows; a filter leaves out what lies below it, and Esc clears it."""
    valued = [
        event(number, value=value, value_target="sha256:a")
        for number, value in enumerate([0.02, 0.31, None, -0.1])
    ]
    with page_server(valued) as source, open_page(browser, source.address) as page:
        expect(page.locator("#target")).to_be_hidden()
        source.status.learned(value_target={"own_value": 0.065, "records": 150})
        expect(page.locator("#own-value")).to_have_text("0.0650")
        page.select_option("#order", "value")
        expect(page.locator("article.card").first).to_contain_text("0.3100")
        found = page.evaluate(
            "[...document.querySelectorAll('[data-sequence]')].map((n) => n.dataset.sequence)"
        )
        assert found == ["1", "0", "3", "2"]
        assert "order=value" in page.url

        page.fill("#least-value", "0.01")
        page.keyboard.press("Enter")
        expect(page.locator("article.card")).to_have_count(2)
        assert "least=0.01" in page.url
        page.click("#table-view")
        expect(page.locator("thead th:visible")).to_have_count(10)
        expect(page.locator("tr[data-sequence]").first.locator("td")).to_have_count(10)
        page.locator("tr[data-sequence]").first.focus()
        page.keyboard.press("Escape")
        expect(page.locator("tr[data-sequence]")).to_have_count(4)


def test_page_without_values_has_no_way_to_ask_for_them(browser: Browser) -> None:
    """No field, no order, no column."""
    with page_server([event(0)]) as source, open_page(browser, source.address) as page:
        expect(page.locator("article.card")).to_have_count(1)
        expect(page.locator("#value-field")).to_be_hidden()
        assert page.locator("#by-value").is_disabled()
        page.click("#table-view")
        expect(page.locator("thead th:visible")).to_have_count(9)
