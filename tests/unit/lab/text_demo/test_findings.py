"""Verdicts beside texts: whom a repeat names, and what counts as worded alike."""

from __future__ import annotations

from typing import Any

import pytest

from dugs_stream.lab.text_demo.findings import Count, counts, judged_texts, key_of, resemblance
from dugs_stream.lab.text_demo.paragraphs import COMMENT, MANUAL
from dugs_stream.lab.text_demo.repeats import EXACT, ORIGINAL, Streamed

STREAM = [
    Streamed("The cat sat on the mat.", MANUAL, "cats", ORIGINAL, 0),
    Streamed("Gradients point the same way.", COMMENT, "a.py", ORIGINAL, 1),
    Streamed("The cat sat on a mat.", COMMENT, "b.py", ORIGINAL, 2),
    Streamed("The cat sat on the mat.", MANUAL, "cats", EXACT, 0),
    Streamed("Gradients point the same way.", COMMENT, "a.py", EXACT, 1),
    Streamed("the cat sat on a mat.", COMMENT, "b.py", "capitals lost", 2),
]


def event(place: int, kind: str, nearest: int | None = None) -> dict[str, Any]:
    """As much of an event as is read: `nearest` is a place of the stream."""
    named = None if nearest is None else {"sequence": nearest, "id": f"in/0/{nearest}"}
    return {"id": f"in/0/{place}", "type": kind, "source": {"key": key_of(place)}, "nearest": named}


EVENTS = [
    event(0, "unique"), event(1, "unique", 0), event(2, "duplicate", 0), event(3, "duplicate", 0),
    event(4, "duplicate", 0), event(5, "unique", 1),
]  # fmt: skip


def test_counts_by_kind_and_by_role() -> None:
    """A repeat counts as its own if it names its original, an original if it is worded like its nearest."""
    originals, repeats = counts(judged_texts(STREAM, EVENTS))

    assert originals == [Count(MANUAL, 1, 1, 0, 0), Count(COMMENT, 2, 1, 1, 1)]
    assert repeats == [Count(EXACT, 2, 0, 2, 1), Count("capitals lost", 1, 1, 0, 0)]


def test_texts_stand_beside_their_events_and_nearest_in_the_order_of_deciding() -> None:
    """Whatever that order is."""
    judged = judged_texts(STREAM, list(reversed(EVENTS)))

    assert [each.place for each in judged] == [5, 4, 3, 2, 1, 0]
    assert judged[1].nearest is STREAM[0]
    assert judged[-1].nearest is None


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [("A b, c!", "c B a", 1.0), ("a b", "b c", 1 / 3), ("a", "b", 0.0), ("", "...", 0.0)],
)
def test_resemblance_is_the_share_of_common_words(one: str, other: str, expected: float) -> None:
    """Without regard to case, order and punctuation."""
    assert resemblance(one, other) == pytest.approx(expected)


def test_key_of_another_stream_is_refused() -> None:
    """Rather than a wrong text beside an event."""
    with pytest.raises(ValueError, match="none of the demo's"):
        judged_texts(STREAM, [event(0, "unique") | {"source": {"key": "digit-0001"}}])
