"""The page over a list of uniques in a real browser: filters, keys, pages, widths, colours, notices."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from playwright.sync_api import Browser, Error, Page, expect

from dugs_stream.ops.metrics import Role
from tests.browser.conftest import refuses_injection
from tests.support.pages.browser import PHONE, open_page
from tests.support.pages.server import event, page_server

CARD = "article.card"
LONG = "W" * 300


def numbers(page: Page) -> list[int]:
    """The sequence numbers on the page, in its order."""
    found: list[int] = page.evaluate(
        "[...document.querySelectorAll('[data-sequence]')].map((n) => Number(n.dataset.sequence))"
    )
    return found


def test_pages_turn_and_stay_put_while_new_uniques_come(browser: Browser) -> None:
    """What stood on the second page when it was opened still stands there; the first page has the news."""
    with (
        page_server([event(number) for number in range(130)]) as source,
        open_page(browser, source.address) as page,
    ):
        expect(page.locator(CARD)).to_have_count(48)
        assert numbers(page) == list(range(129, 81, -1))
        page.click("#next")
        expect(page.locator("#place")).to_have_text("49–96 of 130")
        second = numbers(page)
        source.events.append(event(130))
        expect(page.locator("#count")).to_have_text("131")

        assert numbers(page) == second == list(range(81, 33, -1))
        page.keyboard.press("p")
        expect(page.locator(CARD).first).to_have_attribute("data-sequence", "130")


def test_last_page_has_no_next(browser: Browser) -> None:
    """By sequence the last page is the newest; buttons that lead nowhere are off."""
    with (
        page_server([event(number) for number in range(50)]) as source,
        open_page(browser, source.address) as page,
    ):
        page.select_option("#order", "oldest")
        page.click("#next")
        expect(page.locator(CARD)).to_have_count(2)

        assert numbers(page) == [48, 49]
        expect(page.locator("#next")).to_be_disabled()
        page.click("#first")
        expect(page.locator("#previous")).to_be_disabled()


def test_label_and_search_narrow_the_list_and_escape_clears_them(browser: Browser) -> None:
    """Both stand in the address, so that a link leads to what was found."""
    with (
        page_server([event(number) for number in range(60)]) as source,
        open_page(browser, source.address) as page,
    ):
        expect(page.locator("#label option")).to_have_count(11)
        page.select_option("#label", "7")
        expect(page.locator(CARD)).to_have_count(6)
        page.keyboard.press("/")
        page.keyboard.type("KEY-17")
        expect(page.locator(CARD)).to_have_count(1)
        assert "label=7&id=KEY-17" in page.url
        link = page.url
        page.keyboard.press("Escape")
        expect(page.locator(CARD)).to_have_count(6)
        page.keyboard.press("Escape")
        expect(page.locator(CARD)).to_have_count(48)
        page.goto(link)
        expect(page.locator(CARD)).to_have_count(1)

        assert numbers(page) == [17]
        page.fill("#search", "#42")
        page.select_option("#label", "")
        expect(page.locator(f"{CARD} .number")).to_have_text("#42")
        page.fill("#search", "nothing of the kind")
        expect(page.locator("#empty")).to_have_text("No unique matches. Press Esc to clear the filters.")


def test_keys_reach_everything(browser: Browser) -> None:
    """Moving, opening, closing, turning over, choosing the view and the help need no mouse."""
    with (
        page_server([event(number) for number in range(60)]) as source,
        open_page(browser, source.address) as page,
    ):
        expect(page.locator(CARD)).to_have_count(48)
        for key in ("j", "j", "j", "k", "ArrowRight"):
            page.keyboard.press(key)
        assert page.evaluate("Number(document.activeElement.dataset.sequence)") == 57
        page.keyboard.press("Enter")
        expect(page.locator("#detail-title")).to_contain_text("#57")
        page.locator("#detail .nearest").click()
        expect(page.locator("#detail-title")).to_contain_text("#0")
        page.keyboard.press("Escape")
        expect(page.locator("#detail")).not_to_be_visible()
        page.keyboard.press("v")
        expect(page.locator("#rows tr")).to_have_count(48)
        page.keyboard.press("j")
        page.keyboard.press("n")
        expect(page.locator("#rows tr")).to_have_count(12)
        page.keyboard.press("o")
        expect(page.locator("#rows tr").first).to_have_attribute("data-sequence", "0")
        page.keyboard.press("?")
        expect(page.locator("#help")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.locator("#help")).not_to_be_visible()
        page.keyboard.press("l")

        assert page.evaluate("document.activeElement.id") == "label"


def worst() -> list[dict[str, Any]]:
    """Uniques whose every text is long, without a place to break."""
    nasty = event(2, label_name=LONG, id=f"{LONG}/0/2", gradient_norm=1.234567891234e-9)
    nasty["source"]["key"] = LONG
    keyless = event(3, label=None, gradient_norm=None, similarity=None, similarity_bound=0.21, nearest=None)
    keyless["source"] |= {"key": None, "key_sha256": "ab" * 32}
    return [event(0), event(1), nasty, keyless]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", ["cards", "table"])
def test_phone_never_scrolls_sideways(browser: Browser, scheme: str, view: str) -> None:
    """For names of any length; a table scrolls within itself, and so does an opened unique."""
    with page_server(worst()) as source:
        source.status.learned(model=LONG, layers=[LONG, LONG])
        address = f"{source.address}?view={view}&sequence=2"
        with open_page(browser, address, viewport=PHONE, color_scheme=scheme) as page:
            expect(page.locator("#detail pre")).to_be_visible()
            expect(page.locator("#model")).to_have_text(LONG)

            width = "document.documentElement.scrollWidth"
            assert page.evaluate(width) <= PHONE["width"]
            assert page.evaluate("document.querySelector('#detail').scrollWidth") <= PHONE["width"]
            page.keyboard.press("Escape")
            assert page.evaluate(width) <= PHONE["width"]


def test_dark_and_light_are_the_readers_choice(browser: Browser) -> None:
    """Ground and text change places, and stay apart in both."""
    seen = []
    with page_server([event(0)]) as source:
        for scheme in ("light", "dark"):
            with open_page(browser, source.address, color_scheme=scheme) as page:
                expect(page.locator(CARD)).to_have_count(1)
                seen.append(
                    page.evaluate(
                        "(({backgroundColor: b, color: c}) => [b, c])(getComputedStyle(document.body))"
                    )
                )

    assert seen == [["rgb(246, 248, 250)", "rgb(31, 35, 40)"], ["rgb(13, 17, 23)", "rgb(230, 237, 243)"]]


def test_records_without_pictures_are_shown_as_a_table(browser: Browser) -> None:
    """Unless the user chooses cards."""
    with page_server([event(0), event(1)]) as source:
        source.status.learned(codec="npy")
        with open_page(browser, source.address) as page:
            expect(page.locator("#rows tr")).to_have_count(2)
            expect(page.locator("#cards")).not_to_be_visible()
            page.click("#cards-view")
            expect(page.locator(CARD)).to_have_count(2)


def test_standby_says_what_it_does_not_have(browser: Browser) -> None:
    """It has the uniques, and neither pictures nor counts."""
    with page_server([event(0)]) as source:
        source.status.role_changed(Role.STANDBY)
        with open_page(browser, source.address) as page:
            expect(page.locator("#notice")).to_contain_text("This instance is on standby.")
            expect(page.locator(f"{CARD} .duplicates")).to_have_text("Only the owner counts duplicates.")
            expect(page.locator(f"{CARD} .picture")).to_have_text("no picture")


def test_best_effort_is_said_on_the_page(browser: Browser) -> None:
    """Counts and pictures must not be taken for exact."""
    with page_server([event(0)]) as source, open_page(browser, source.address) as page:
        expect(page.locator("footer")).to_contain_text("best effort, outside the exactly-once promise")


def test_what_is_not_ready_is_named(browser: Browser) -> None:
    """With the reason that /readyz gives, as text."""
    with page_server([event(0)]) as source:
        source.status.lacks("log", "<b>localhost:9092</b> does not answer")
        with open_page(browser, source.address) as page:
            expect(page.locator("#notice")).to_have_text(
                "Not ready. log: <b>localhost:9092</b> does not answer"
            )


def test_page_survives_a_daemon_that_is_away_for_a_while(browser: Browser) -> None:
    """It says so, keeps what it shows, and continues by itself."""
    with page_server([event(0)]) as source, open_page(browser, source.address, faults=20) as page:
        expect(page.locator(CARD)).to_have_count(1)
        page.context.set_offline(True)
        expect(page.locator("#notice")).to_have_text("This instance does not answer. Retrying.")
        expect(page.locator(CARD)).to_have_count(1)
        page.context.set_offline(False)
        expect(page.locator("#notice")).not_to_be_visible()


def test_browser_asks_for_the_password_and_the_page_works_with_it(browser: Browser) -> None:
    """Scripts, style and requests send it too; without it nothing is shown."""
    secret = "Basic " + base64.b64encode(b"dugs:pass:word").decode()
    credentials = {"username": "dugs", "password": "pass:word"}
    with page_server([event(0)], expected=secret) as source:
        with open_page(browser, source.address, http_credentials=credentials) as page:
            expect(page.locator(CARD)).to_have_count(1)
        with pytest.raises(Error, match="AUTH"), open_page(browser, source.address, faults=1):
            pass


def test_injected_script_does_not_run(browser: Browser) -> None:
    """The page's policy stops injected markup: no inline script, no handler, no markup from text."""
    with page_server([event(0)]) as source, open_page(browser, source.address, faults=9) as page:
        expect(page.locator(CARD)).to_have_count(1)

        assert refuses_injection(page)
