"""Decisions on one list: those of an earlier list, or of another model, lie on the same topic and are told apart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple


class ListOrigin(NamedTuple):
    """What the decisions on a list have in common: the model's fingerprint, and the time of the first unique; "": any."""

    fingerprint: str
    since: str


def origin_of(first_unique: Mapping[str, Any]) -> ListOrigin:
    """The origin of the list that begins with the unique of this event."""
    return ListOrigin(str(first_unique["model"]["fingerprint"]), str(first_unique["time"]))


ANY_LIST = ListOrigin("", "")
"""Where nothing is known of the list."""


def decisions_of_list(events: Iterable[Mapping[str, Any]], origin: ListOrigin) -> Iterator[Mapping[str, Any]]:
    """The decisions by the list's model since its first unique.

    By time and not by the order of sequence numbers: a topic of several partitions is read one after the other. The
    times are those of the daemon's clock, in one form that sorts as text.
    """
    for event in events:
        is_by_it = not origin.fingerprint or event["model"]["fingerprint"] == origin.fingerprint
        if is_by_it and event["time"] >= origin.since:
            yield event
