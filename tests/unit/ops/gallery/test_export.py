"""The page as one file: self-contained, escaped, bounded, and whole."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from html.parser import HTMLParser
from typing import Any

import pytest

from dugs_stream.inputs.image import FORMATS
from dugs_stream.ops.gallery import export
from dugs_stream.ops.gallery.export import EXAMPLES_SHOWN, MOST_UNIQUES, render_page
from tests.support.pages.events import duplicate_event, encoded_picture, event, unique_event

WHITE = encoded_picture()
SCRIPT = (
    "</title></style></dd></script><!--<script>alert(1)</script>&lt;<img src=x onerror=alert(1)>\"'\u2028"
)
STATUS = {"threshold": 0.3, "model": "alexnet", "fingerprint": "sha256:00", "layers": ("fc1", "fc2")}


class Page(HTMLParser):
    """The page as a browser's parser sees it: elements with their attributes, and the text of scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, list[str]] = {"script": [], "style": []}
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in self.inside:
            self.inside[tag].append("")

    def handle_data(self, data: str) -> None:
        if self.cdata_elem is not None:  # the text of a script or a style
            self.inside[self.cdata_elem][-1] += data

    def all(self, attribute: str) -> list[str]:
        """Every value of an attribute."""
        return [value for _, attrs in self.elements if (value := attrs.get(attribute))]

    @property
    def carried(self) -> Any:
        """The data that the page's script reads."""
        return json.loads(self.inside["script"][0])


def page_of(
    events: Sequence[Mapping[str, Any]],
    value_of: Callable[[Mapping[str, Any]], bytes | None] = lambda _event: WHITE,
    **facts: str,
) -> Page:
    """The page of these events."""
    return Page(render_page(events, value_of, FORMATS, status=STATUS, facts=facts))


def test_each_unique_is_carried_with_its_nearest_and_what_it_absorbed() -> None:
    """Cards as the daemon gives them, in sequence order; every picture inside the file."""
    events = [unique_event(4, 1, label=3), unique_event(0, 0, label=7), duplicate_event(2, 1, 0.44)]
    carried = page_of([*events, event(3, "rejected")], records="4").carried
    first, second = carried["items"]

    assert (first["event"], second["event"]) == (events[1], events[0])
    assert (first["nearest"], first["absorbed"]) == (None, {"count": 0, "some": []})
    assert second["nearest"] == {
        "sequence": 0, "id": "samples/0/0", "label": 7, "label_name": None, "picture": True,
    }  # fmt: skip
    assert second["absorbed"]["count"] == 1
    assert second["absorbed"]["some"][0]["similarity"] == 0.44
    assert sorted(carried["pictures"]) == ["0/0", "1/0", "1/1"]
    assert all(uri.startswith("data:image/png;base64,") for uri in carried["pictures"].values())
    assert (carried["status"]["layers"], carried["facts"]) == (["fc1", "fc2"], {"records": "4"})


def test_texts_are_carried_beside_their_nearest() -> None:
    """A unique's, its nearest one's and those that it absorbed; a long one by its beginning."""
    events = [unique_event(0, 0), unique_event(1, 1), duplicate_event(2, 1, 0.95)]
    values = {0: b"first", 1: b"x" * 5000, 2: b"again"}

    def value_of(event: Mapping[str, Any]) -> bytes:
        return values[event["source"]["offset"]]

    html = render_page(events, value_of, (), status=STATUS, facts={}, text_of=bytes.decode)
    carried = Page(html).carried
    first, second = carried["items"]

    assert carried["status"]["codec"] == "text"
    assert (first["text"], first["picture"]) == ("first", False)
    assert second["text"] == "x" * 599 + "…"
    assert second["nearest"]["text"] == "first"
    assert second["absorbed"]["some"][0]["text"] == "again"
    assert carried["pictures"] == {}


@pytest.mark.parametrize("field", ["label_name", "key", "topic", "fact", "value"])
def test_text_of_a_record_never_becomes_markup(field: str) -> None:
    """No value ends the element it stands in: the parser sees the same elements, and reads the value back."""

    def page(text: str) -> Page:
        if field == "value":
            events = [unique_event(0, 0), duplicate_event(1, 0, 0.5)]
            html = render_page(
                events, lambda _event: text.encode(), (), status=STATUS, facts={}, text_of=bytes.decode
            )
            return Page(html)
        fields, facts = ({}, {text: text}) if field == "fact" else ({field: text}, {})
        return page_of([unique_event(0, 0, **fields), duplicate_event(1, 0, 0.5, **fields)], **facts)

    attacked, harmless = page(SCRIPT), page("x")

    assert attacked.elements == harmless.elements
    assert attacked.inside["script"][1:] == harmless.inside["script"][1:]
    assert SCRIPT in json.dumps(attacked.carried, ensure_ascii=False).replace('\\"', '"')


def test_page_asks_for_nothing_and_its_policy_allows_one_script() -> None:
    """All it needs is inside; script and style are allowed by their hashes, nothing else is."""
    html = render_page([unique_event(0, 0)], lambda _event: WHITE, FORMATS, status=STATUS, facts={})
    page = Page(html)
    data, script = page.inside["script"]
    directives = dict(each.split(" ", 1) for each in page.all("content")[0].split("; "))

    def hash_of(content: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"

    assert [tag for tag, _ in page.elements][:5] == ["html", "head", "meta", "meta", "meta"]
    assert page.elements[3][1]["http-equiv"] == "Content-Security-Policy"
    assert directives["default-src"] == "'none'"
    assert directives["script-src"] == hash_of(script)
    assert directives["style-src"] == hash_of(*page.inside["style"])
    assert (directives["img-src"], "connect-src" in directives) == ("data:", False)
    assert not page.all("src")
    assert all(link.startswith(("data:", "#", "api/", "metrics")) for link in page.all("href"))
    assert not re.search(r"https?:|@import|url\(", html.replace(data, ""))


def test_what_is_beyond_the_limits_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the list, the page stays one that browsers open: examples, uniques and bytes are bounded."""
    uniques = [unique_event(n, n) for n in range(MOST_UNIQUES + 3)]
    duplicates = [duplicate_event(1_000 + n, 0, 0.5) for n in range(600)]
    carried = page_of([*uniques, *duplicates]).carried

    assert (carried["uniques"], len(carried["items"])) == (MOST_UNIQUES + 3, MOST_UNIQUES)
    assert carried["items"][0]["absorbed"]["count"] == 600
    assert len(carried["items"][0]["absorbed"]["some"]) == EXAMPLES_SHOWN

    monkeypatch.setattr(export, "MOST_PICTURE_BYTES", 100)
    items = page_of([unique_event(n, n) for n in range(3)]).carried["items"]
    assert [item["picture"] for item in items] == [True, False, False]


@pytest.mark.parametrize("value", [b"broken", b"", None])
def test_record_without_a_readable_picture_has_none(value: bytes | None) -> None:
    """A broken picture does not break the page."""
    carried = page_of([unique_event(0, 0), duplicate_event(1, 0, 0.5)], lambda _event: value).carried

    assert carried["pictures"] == {}
    assert not carried["items"][0]["picture"]
    assert not carried["items"][0]["absorbed"]["some"][0]["picture"]


def test_text_in_any_language_is_carried() -> None:
    """Half a surrogate pair too, which UTF-8 alone could not hold."""
    facts = {"τ": "猫 \ud800"}
    html = render_page([unique_event(0, 0)], lambda _event: None, FORMATS, status=STATUS, facts=facts)

    assert Page(html.encode().decode()).carried["facts"] == facts
