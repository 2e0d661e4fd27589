"""The page of texts: differences marked, everything escaped, long sections cut."""

from __future__ import annotations

import re
from typing import Any

import pytest

from dugs_stream.lab.text_demo.findings import counts, judged_texts, key_of
from dugs_stream.lab.text_demo.page import MOST_CARDS, render_page
from dugs_stream.lab.text_demo.paragraphs import DOCSTRING
from dugs_stream.lab.text_demo.repeats import ORIGINAL, Streamed
from dugs_stream.lab.text_demo.summary import Summary


def page(stream: list[Streamed], events: list[dict[str, Any]]) -> str:
    """The page of these texts at a threshold of 0.5."""
    judged = judged_texts(stream, events)
    originals, repeats = counts(judged)
    return render_page(judged, Summary(originals, repeats, 0.5, 8, ("h.<0>",), "A <model>.", 1.0, ()))


def original(place: int, text: str) -> Streamed:
    """An original at this place."""
    return Streamed(text, DOCSTRING, "<a>.py", ORIGINAL, place)


def event(place: int, *, nearest: int | None = None, similarity: float | None = None) -> dict[str, Any]:
    """A unique; with a similarity of 0.5 or more a duplicate. Sequence numbers are places."""
    is_duplicate = similarity is not None and similarity >= 0.5
    return {
        "id": f"in/0/{place}",
        "type": "duplicate" if is_duplicate else "unique",
        "sequence": None if is_duplicate else place,
        "similarity": similarity,
        "source": {"key": key_of(place)},
        "nearest": None if nearest is None else {"sequence": nearest, "id": f"in/0/{nearest}"},
    }


def test_words_that_two_texts_do_not_share_are_marked_in_both() -> None:
    """And escaped; what they share is not marked."""
    stream = [original(0, "one two <b> three four five"), original(1, "one two <i> three four five")]

    shown = page(stream, [event(0), event(1, nearest=0, similarity=0.8)])

    assert "one two &lt;<ins>i</ins>&gt; three four five" in shown
    assert "one two &lt;<del>b</del>&gt; three four five" in shown
    assert "similarity 0.800" in shown


def test_texts_that_share_little_are_shown_unmarked_as_the_price_of_the_threshold() -> None:
    """A page of marks says nothing."""
    stream = [original(0, "one two three four"), original(1, "five six seven one")]

    shown = page(stream, [event(0), event(1, nearest=0, similarity=0.6)])

    assert "Judged duplicates, though worded differently: 1" in shown
    assert "<ins>" not in shown


def test_nothing_of_a_record_becomes_markup() -> None:
    """Text, source, layers and model are escaped; the only tags are the page's own."""
    shown = page([original(0, "</p><script>alert(1)</script><img src=x onerror=y>")], [event(0)])

    own = {
        "!doctype", "html", "head", "meta", "title", "style", "body", "p", "h1", "h2", "dl", "div", "dt", "dd", "svg",
        "text", "line", "rect", "section", "article", "span",
    }  # fmt: skip
    assert {name.lower() for name in re.findall(r"<(!?[a-zA-Z0-9]+)", shown)} <= own
    assert "h.&lt;0&gt;" in shown


def test_long_section_is_cut_and_says_so() -> None:
    """Pages of thousands of cards are no use."""
    count = MOST_CARDS + 5
    shown = page(
        [original(place, f"text {place}") for place in range(count)], [event(place) for place in range(count)]
    )

    assert shown.count("<article") == MOST_CARDS
    assert f"The first {MOST_CARDS} of {count} are shown." in shown


@pytest.mark.parametrize(("similarity", "colour"), [(0.49, "kept"), (0.51, "caught")])
def test_bar_of_the_chart_has_the_colour_of_its_side_of_the_threshold(similarity: float, colour: str) -> None:
    """Green below, blue from the threshold on."""
    shown = page(
        [original(0, "one"), original(1, "two")], [event(0), event(1, nearest=0, similarity=similarity)]
    )

    assert re.findall(r'<rect class="(\w+)"', shown) == [colour]
