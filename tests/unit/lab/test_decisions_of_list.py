"""`lab.decisions_of_list`: one topic may hold the decisions on several lists."""

from __future__ import annotations

from typing import Any

from dugs_stream.lab.decisions_of_list import decisions_of_list, origin_of


def event(name: str, second: int, fingerprint: str = "a") -> dict[str, Any]:
    """What is looked at of one."""
    return {
        "id": name,
        "time": f"2026-11-24T10:15:{second:02}.000Z",
        "model": {"fingerprint": fingerprint},
    }


def test_decisions_are_those_by_the_list_s_model_since_its_first_unique() -> None:
    """In any order: of a topic with several partitions one is read after the other, each with earlier lists before it."""
    first = event("first of the list", 20)
    events = [
        event("earlier list", 3),
        first,
        event("another model", 30, "b"),
        event("later", 40),
        event("earlier list, second partition", 4),
        event("second partition", 21),
    ]

    found = [each["id"] for each in decisions_of_list(events, origin_of([first, event("later", 40)]))]

    assert found == ["first of the list", "later", "second partition"]
    assert list(decisions_of_list(events, origin_of([]))) == events
