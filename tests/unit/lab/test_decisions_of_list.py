"""`lab.decisions_of_list`: one topic may hold the decisions on several lists."""

from __future__ import annotations

from typing import Any

from dugs_stream.lab.decisions_of_list import decisions_of_list


def event(kind: str, sequence: int | None, fingerprint: str = "a") -> dict[str, Any]:
    """What is looked at of one."""
    return {"type": kind, "sequence": sequence, "model": {"fingerprint": fingerprint}}


def test_list_that_begins_anew_is_told_by_its_first_unique() -> None:
    """Numbers only rise within a list, also on a topic whose beginning was pruned; other models are passed over."""
    events = [
        event("unique", 7),
        event("duplicate", None),
        event("unique", 0, "b"),
        event("unique", 9),
        event("no_gradient", None),
        event("unique", 0),
        event("unique", 1),
    ]

    assert [each.begins_anew for each in decisions_of_list(events, "a")] == [False] * 4 + [True, False]
    assert [each.event["sequence"] for each in decisions_of_list(events, "b")] == [0]
    assert len(list(decisions_of_list(events, ""))) == 7
