"""Decisions on one list: those of an earlier list, or of another model, lie on the same topic and are told apart."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from dugs_stream.state.reading import SnapshotReader


class ListOrigin(NamedTuple):
    """What the decisions on a list have in common: the model's fingerprint, and the time of the first unique; "": any."""

    fingerprint: str
    since: str


ANY_LIST = ListOrigin("", "")
"""Where nothing is known of the list."""


def origin_of(uniques: Sequence[Mapping[str, Any]]) -> ListOrigin:
    """The origin of a list by the events of its uniques, of which the first is enough; ANY_LIST of none."""
    if not uniques:
        return ANY_LIST
    return ListOrigin(str(uniques[0]["model"]["fingerprint"]), str(uniques[0]["time"]))


def origin_in_state(reader: SnapshotReader) -> ListOrigin:
    """That of a snapshot's list. Raises StateError if its events cannot be read."""
    return origin_of([json.loads(reader.events_of([0])[0])] if len(reader.rows) else [])


def decisions_of_list(events: Iterable[Mapping[str, Any]], origin: ListOrigin) -> Iterator[Mapping[str, Any]]:
    """The decisions by the list's model since its first unique.

    By time and not by the order of sequence numbers: a topic of several partitions is read one after the other. The
    times are those of the daemon's clock, in one form that sorts as text.
    """
    for event in events:
        is_by_it = not origin.fingerprint or event["model"]["fingerprint"] == origin.fingerprint
        if is_by_it and event["time"] >= origin.since:
            yield event
