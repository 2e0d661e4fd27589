"""Verdicts of the stream: each text beside its event and its nearest earlier unique, counted by role."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dugs_stream.lab.text_demo.paragraphs import KINDS
from dugs_stream.lab.text_demo.repeats import EDITS, EXACT, ORIGINAL, Streamed
from dugs_stream.records import Verdict

Event = Mapping[str, Any]
_KEY = re.compile(r"text-(\d+)")
_WORD = re.compile(r"\w+")
ALIKE = 0.5
"""Share of words in common from which two texts count as worded alike."""


def key_of(place: int) -> str:
    """The key of the record at this place of the stream."""
    return f"text-{place:04d}"


@dataclass(frozen=True, slots=True)
class Judged:
    """A text of the stream, the daemon's event of it, and the unique that the event names as nearest, if any."""

    place: int
    text: Streamed
    event: Event
    nearest: Streamed | None

    @property
    def is_duplicate(self) -> bool:
        """Whether its verdict is duplicate."""
        return bool(self.event["type"] == Verdict.DUPLICATE)

    @property
    def is_unique(self) -> bool:
        """Whether its verdict is unique."""
        return bool(self.event["type"] == Verdict.UNIQUE)

    @property
    def names_its_original(self) -> bool:
        """Whether it is a repeat judged a duplicate of the very text that it repeats."""
        return self.is_duplicate and self.nearest is not None and self.nearest.of == self.text.of

    @property
    def is_worded_alike(self) -> bool:
        """Whether it shares at least half of its words with its nearest."""
        return self.nearest is not None and resemblance(self.text.text, self.nearest.text) >= ALIKE


def resemblance(one: str, other: str) -> float:
    """Words in both as a share of words in either, in 0…1, without regard to case and punctuation."""
    words, others = (set(_WORD.findall(text.lower())) for text in (one, other))
    return len(words & others) / max(len(words | others), 1)


def judged_texts(stream: Sequence[Streamed], events: Sequence[Event]) -> list[Judged]:
    """The texts in the order of deciding, each beside what was judged of it."""
    by_id = {event["id"]: _place(event) for event in events}
    return [
        Judged(place, stream[place], event, None if named is None else stream[by_id[named["id"]]])
        for event in events
        for place, named in [(_place(event), event["nearest"])]
    ]


def _place(event: Event) -> int:
    found = _KEY.fullmatch(event["source"]["key"])
    if found is None:
        raise ValueError(f"key {event['source']['key']!r} is none of the demo's")
    return int(found[1])


@dataclass(frozen=True, slots=True)
class Count:
    """Texts of one role, and for originals of one kind: how many were streamed, unique, and duplicates.

    own  of the duplicates: repeats whose nearest is their own original; originals that are worded like theirs
    """

    name: str
    records: int
    uniques: int
    duplicates: int
    own: int


def counts(judged: Sequence[Judged]) -> tuple[list[Count], list[Count]]:
    """The counts of the originals by kind, and of the repeats by role."""
    originals = [each for each in judged if each.text.role == ORIGINAL]
    repeats = [each for each in judged if each.text.role != ORIGINAL]
    return (
        list(_counts(originals, [each.text.kind for each in originals], KINDS)),
        list(_counts(repeats, [each.text.role for each in repeats], (EXACT, *EDITS))),
    )


def _counts(judged: Sequence[Judged], names: Sequence[str], order: Iterable[str]) -> Iterator[Count]:
    """A count for each name of `order` that some text has; `names` in parallel with `judged`."""
    for name in order:
        part = [each for each, own in zip(judged, names, strict=True) if own == name]
        if not part:
            continue
        duplicates = [each for each in part if each.is_duplicate]
        yield Count(
            name,
            records=len(part),
            uniques=sum(each.is_unique for each in part),
            duplicates=len(duplicates),
            own=sum(
                each.is_worded_alike if each.text.role == ORIGINAL else each.names_its_original
                for each in duplicates
            ),
        )
