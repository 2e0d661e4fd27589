"""The page as one file, opened from the disk in a real browser: whole, offline, and safe from what records say."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from dugs_stream.inputs.image import FORMATS
from dugs_stream.ops.gallery.export import render_page
from tests.browser.conftest import ATTACK, refuses_injection
from tests.support.pages.browser import PHONE, open_page, wait_for
from tests.support.pages.events import duplicate_event, encoded_picture, unique_event

CARD = "article.card"
TIME = "2026-11-24T10:15:00.123Z"
LABELS = (f"bar </script>{ATTACK}", "disc", "square")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page of 60 uniques of three labels, the first of which absorbed 30 duplicates; one label is a script."""
    names = [LABELS[number % 3] for number in range(60)]
    uniques = [
        unique_event(n, n, label=n % 3, label_name=name, key=f"key-{n} {ATTACK}", time=TIME)
        for n, name in enumerate(names)
    ]
    duplicates = [duplicate_event(100 + n, 0, 0.5, label=0, time=TIME) for n in range(30)]
    path = tmp_path_factory.mktemp("file") / "gallery.html"
    status = {"threshold": 0.3, "model": "alexnet", "fingerprint": "sha256:00", "layers": [ATTACK]}
    page = render_page(
        [*uniques, *duplicates], lambda _event: encoded_picture(28, 28), FORMATS, status=status,
        facts={"records": "90", ATTACK: ATTACK},
    )  # fmt: skip
    path.write_text(page, encoding="utf-8")
    return path.as_uri()


def test_file_shows_every_unique_with_pictures_and_duplicates(browser: Browser, address: str) -> None:
    """In sequence order, a page at a time; what only a daemon knows is not there."""
    with open_page(browser, address) as page:
        expect(page.locator(CARD)).to_have_count(48)
        wait_for(page, "[...document.images].every((image) => image.complete && image.naturalWidth === 28)")

        assert page.locator("#count").inner_text() == "60"
        assert page.locator(f"{CARD} .number").first.inner_text() == "#0"
        assert (
            page.locator(f"{CARD} .duplicates").first.inner_text().startswith("30 duplicates, the first 12:")
        )
        assert page.locator("#facts dd").first.inner_text() == "90"
        expect(page.locator("#role")).not_to_be_visible()
        expect(page.locator("footer a").first).not_to_be_visible()
        page.keyboard.press("n")
        expect(page.locator(CARD)).to_have_count(12)


def test_file_can_be_searched_filtered_and_opened(browser: Browser, address: str) -> None:
    """By label, part of a key and number; a card opens on the whole event."""
    with open_page(browser, address) as page:
        page.select_option("#label", "disc")
        expect(page.locator(CARD)).to_have_count(20)
        page.fill("#search", "KEY-5")
        expect(page.locator(f"{CARD} .number")).to_have_text(
            ["#52", "#55", "#58"]
        )  # and not 5, which is a square
        page.fill("#search", "#7")
        expect(page.locator(CARD)).to_have_count(1)
        page.locator(CARD).click()
        expect(page.locator("#detail pre")).to_contain_text('"id": "samples/0/7"')
        page.locator("#detail .nearest").click()
        expect(page.locator("#detail-title")).to_contain_text("#0")


@pytest.mark.parametrize("view", ["cards", "table"])
def test_script_in_a_record_stays_text_in_a_file(browser: Browser, address: str, view: str) -> None:
    """Neither a label, a key, a layer nor a fact runs or becomes markup; and the file loads nothing."""
    with open_page(browser, f"{address}?view={view}&sequence=0") as page:
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        expect(page.locator("#detail pre")).to_contain_text("</script><img src=x onerror=")
        expect(page.locator("#layers")).to_have_text(ATTACK)

        assert page.evaluate("window.attacked") is None
        assert page.locator("script").count() == 2
        assert page.locator("img[src=x]").count() == 0
        assert [url for url in requests if not url.startswith("data:")] == []


def test_texts_are_shown_and_stay_texts(browser: Browser, tmp_path: Path) -> None:
    """On cards, with the duplicates below and the nearest one beside in the detail; an attack is a text as any other."""
    text = f"A paragraph about </script>{ATTACK} " * 3
    page_file = tmp_path / "texts.html"
    html = render_page(
        [unique_event(0, 0), unique_event(1, 1), duplicate_event(2, 1, 0.97)], lambda _event: text.encode(), (),
        status={"threshold": 0.9, "model": "gpt2", "fingerprint": "sha256:00", "layers": ["h.1"]}, facts={},
        text_of=bytes.decode,
    )  # fmt: skip
    page_file.write_text(html, encoding="utf-8")

    with open_page(browser, page_file.as_uri()) as page:
        expect(page.locator(f"{CARD} .excerpt.some")).to_have_count(2)
        expect(page.locator(f"{CARD} .excerpt.some").first).to_contain_text(f"</script>{ATTACK}")
        expect(page.locator(f"{CARD} .strip .excerpt")).to_have_count(1)
        page.locator(CARD).nth(1).click()
        expect(page.locator("#detail .pair .excerpt")).to_have_count(2)

        assert page.evaluate("window.attacked") is None
        assert page.locator("img").count() == 0


def test_injected_script_does_not_run_in_a_file(browser: Browser, address: str) -> None:
    """The policy inside the file stops inline scripts, handlers, and markup made of text."""
    with open_page(browser, address, faults=9) as page:
        expect(page.locator(CARD)).to_have_count(48)

        assert refuses_injection(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_file_on_a_phone_never_scrolls_sideways(browser: Browser, address: str, scheme: str) -> None:
    """In either colours, which are the reader's choice."""
    with open_page(browser, address, viewport=PHONE, color_scheme=scheme) as page:
        expect(page.locator(CARD)).to_have_count(48)

        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == {
            "light": "rgb(246, 248, 250)", "dark": "rgb(13, 17, 23)",
        }[scheme]  # fmt: skip
