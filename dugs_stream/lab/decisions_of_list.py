"""Decisions on one list: those of an earlier list, or of another model, lie on the same topic and are told apart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from dugs_stream.records import Verdict


class DecisionOnList(NamedTuple):
    """A decision, and whether a list begins anew with it: then all before it were on another one."""

    event: Mapping[str, Any]
    begins_anew: bool


def decisions_of_list(events: Iterable[Mapping[str, Any]], fingerprint: str) -> Iterator[DecisionOnList]:
    """The decisions by the model of this fingerprint; "" takes those of any model.

    Sequence numbers of uniques only rise within a list, so one that does not begins another.
    """
    last = -1
    for event in events:
        if fingerprint and event["model"]["fingerprint"] != fingerprint:
            continue
        is_unique = event["type"] == Verdict.UNIQUE
        yield DecisionOnList(event, is_unique and event["sequence"] <= last)
        last = event["sequence"] if is_unique else last
