"""The gallery: self-contained, escaped, bounded, and whole."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from dugs_stream.lab.demo import gallery
from dugs_stream.lab.demo.events import JudgedRecord, Run, count_verdicts, read_event
from dugs_stream.lab.demo.gallery import (
    MOST_DUPLICATES,
    MOST_THUMBNAILS,
    MOST_UNIQUES,
    render_gallery,
    write_gallery,
)
from tests.support.pages.events import duplicate_event, encoded_picture, event, unique_event

WHITE = encoded_picture()
SCRIPT = "</title></style></dd><script>alert(1)</script><img src=x onerror=alert(1)>\"'"


class Page(HTMLParser):
    """The page as a browser's parser sees it: elements with their attributes, ids, links and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, attribute: str, tag: str | None = None) -> list[str]:
        """Every value of an attribute."""
        return [
            value for name, attrs in self.elements if tag in {None, name} and (value := attrs.get(attribute))
        ]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def run_of(records: list[JudgedRecord], **fields: Any) -> Run:
    return Run(count_verdicts(records), 0.3, 2048, ("fc1", "fc2"), **fields)


def page_of(
    events: list[dict[str, Any]], picture_of: Callable[[JudgedRecord], bytes | None] = lambda _: WHITE
) -> Page:
    """The rendered page of these events."""
    records = [read_event(one) for one in events]
    return Page(render_gallery(records, picture_of, run_of(records)))


def test_unique_shows_its_explanation_and_what_it_absorbed() -> None:
    """Class, similarity, nearest, norm, key and source of each; and its duplicates, counted."""
    page = page_of(
        [
            unique_event(0, 0, label=7),
            unique_event(1, 1, label=3),
            duplicate_event(2, 1, 0.44),
            event(3, "rejected"),
        ]
    )

    assert "2 unique of 4 records" in page.text
    assert (
        "#1 class 3 similarity 0.1000 τ 0.3 nearest #0 gradient norm 1.5 key k1 source samples/0/1"
        in page.text
    )
    assert "No duplicates yet." in page.text
    assert "1 duplicate 0.44" in page.text


def test_nearest_is_a_link_to_a_card_on_the_page() -> None:
    """Every link leads somewhere: cards are named by sequence number."""
    page = page_of([unique_event(n, n) for n in range(3)])

    assert page.all("href") == ["#u0", "#u0"]
    assert page.all("id", "article") == ["u0", "u1", "u2"]


@pytest.mark.parametrize(
    "fields", [{"label_name": SCRIPT}, {"key": SCRIPT}, {"topic": SCRIPT}], ids=["label", "key", "topic"]
)
def test_text_of_a_record_never_becomes_markup(fields: dict[str, str]) -> None:
    """Whoever sends records cannot put scripts on the page; the text stands there as text."""
    harmless = page_of([unique_event(0, 0, label_name="x", key="x"), duplicate_event(1, 0, 0.5)])
    page = page_of(
        [unique_event(0, 0, **({"label_name": "x"} | fields)), duplicate_event(1, 0, 0.5, **fields)]
    )

    assert [tag for tag, _ in page.elements] == [tag for tag, _ in harmless.elements]
    assert not page.all("onerror")
    assert "<script>alert(1)</script>" in page.text
    assert any("<script>" in title for title in page.all("title"))


def test_layer_names_and_title_are_escaped_too() -> None:
    """What comes from a user's model is text as well."""
    run = Run(count_verdicts([]), 0.3, 8, (SCRIPT,))

    page = Page(render_gallery([], lambda _: None, run, title=SCRIPT))

    assert "script" not in [tag for tag, _ in page.elements]
    assert page.text.count("<script>") == 2


def test_page_asks_for_nothing_outside_itself() -> None:
    """No script, no link out, no import; the policy in the page forbids it to the browser as well."""
    records = [read_event(unique_event(0, 0)), read_event(duplicate_event(1, 0, 0.5))]
    html = render_gallery(records, lambda _: WHITE, run_of(records))

    page = Page(html)
    assert all(source.startswith("data:image/") for source in page.all("src"))
    assert all(link.startswith("#") for link in page.all("href"))
    assert not re.search(r"https?:|@import|url\(", html)
    assert page.all("content")[1].startswith("default-src 'none'")


def test_duplicates_beyond_the_limit_are_counted_and_spread_over_their_range() -> None:
    """The most and the least similar are both there."""
    duplicates = [duplicate_event(1 + n, 0, 0.3 + n / 1_000) for n in range(600)]

    page = page_of([unique_event(0, 0), *duplicates])

    assert f"600 duplicates, {MOST_DUPLICATES} shown, from the most to the least similar 0.90" in page.text
    assert len(page.all("title", "li")) == MOST_DUPLICATES
    assert "0.30 Made by" in page.text


def test_many_uniques_share_the_thumbnails_and_the_rest_is_counted() -> None:
    """However long the list, the page stays one that browsers open."""
    events = [unique_event(n, n) for n in range(MOST_UNIQUES + 3)]
    events += [duplicate_event(1_000 + n, n % MOST_UNIQUES, 0.5) for n in range(12 * MOST_UNIQUES)]

    page = page_of(events)

    assert len(page.all("id", "article")) == MOST_UNIQUES
    assert len(page.all("title", "li")) == MOST_THUMBNAILS
    assert "3 more uniques are not shown here" in page.text


def test_nearest_that_is_not_on_the_page_is_named_without_a_link(monkeypatch: pytest.MonkeyPatch) -> None:
    """A link to a card left out would lead nowhere."""
    monkeypatch.setattr(gallery, "MOST_UNIQUES", 1)
    events = [unique_event(0, 0, nearest={"sequence": 1, "id": "x"}), unique_event(1, 1)]

    page = page_of(events)

    assert page.all("href") == []
    assert "nearest #1" in page.text


def test_record_without_a_readable_picture_says_so() -> None:
    """A broken picture is no broken page."""
    page = page_of([unique_event(0, 0), duplicate_event(1, 0, 0.5)], picture_of=lambda _: b"broken")

    assert page.all("src") == []
    assert "no picture" in page.text


@pytest.mark.parametrize(
    ("similarity", "width"), [(None, "0.0%"), (-0.2, "0.0%"), (0.15, "50.0%"), (0.2999, "100.0%")]
)
def test_bar_shows_similarity_against_the_threshold(similarity: float | None, width: str) -> None:
    """Half of τ is half a bar; opposite gradients have none."""
    page = page_of([unique_event(0, 0, similarity=similarity)])

    assert page.all("style") == [f"width: {width}"]


def test_written_page_is_utf8_whatever_the_locale(tmp_path: Path) -> None:
    """The page says that it is UTF-8, and is."""
    records = [read_event(unique_event(0, 0, label_name="猫"))]

    write_gallery(tmp_path / "gallery.html", records, lambda _: WHITE, run_of(records))

    assert "猫".encode() in (tmp_path / "gallery.html").read_bytes()
