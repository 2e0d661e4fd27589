"""Events as typed records: the fields that the demo reads, and the counts of a run.

An event is the JSON object of the output topics; unknown fields are ignored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dugs_stream.records import Verdict


@dataclass(frozen=True, slots=True)
class EventRecord:
    """An event's verdict on one record; None for null.

    label    class number the loss used: given, or predicted by the model
    key      the record's key as the event spells it
    """

    id: str
    verdict: Verdict
    key: str | None = None
    label: int | None = None
    label_name: str | None = None
    sequence: int | None = None
    similarity: float | None = None

    @property
    def class_name(self) -> str | None:
        """The class name if there is one, else the number."""
        if self.label_name is not None:
            return self.label_name
        return None if self.label is None else str(self.label)


def read_event(event: Mapping[str, Any]) -> EventRecord:
    """The event as a record; KeyError if `id` or `type` is missing."""
    source = event.get("source") or {}
    return EventRecord(
        id=event["id"],
        verdict=Verdict(event["type"]),
        key=source.get("key"),
        label=event.get("label"),
        label_name=event.get("label_name"),
        sequence=event.get("sequence"),
        similarity=event.get("similarity"),
    )


def count_verdicts(records: Iterable[EventRecord]) -> dict[Verdict, int]:
    """Number of records by verdict, all four of them, in the order of `Verdict`."""
    counts = Counter(record.verdict for record in records)
    return {verdict: counts[verdict] for verdict in Verdict}


def uniques_of(records: Iterable[EventRecord]) -> list[EventRecord]:
    """The uniques in order of discovery (by sequence number)."""
    found = [(record.sequence, record) for record in records if record.verdict is Verdict.UNIQUE]
    return [record for _, record in sorted(found, key=lambda pair: -1 if pair[0] is None else pair[0])]


@dataclass(frozen=True, slots=True)
class Run:
    """The results of a run, and the settings it judged by.

    classes        number of classes in the stream; None if unknown
    classes_found  how many of them are among the uniques
    """

    verdicts: Mapping[Verdict, int]
    threshold: float
    dimension: int
    layers: tuple[str, ...]
    classes: int | None = None
    classes_found: int | None = None

    @property
    def records(self) -> int:
        """How many records were judged."""
        return sum(self.verdicts.values())

    @property
    def uniques(self) -> int:
        """How many of them are unique."""
        return self.verdicts[Verdict.UNIQUE]

    def share_of_threshold(self, similarity: float | None) -> float:
        """The similarity as a share of the threshold, in 0…1; 0 for None."""
        if similarity is None or similarity <= 0.0:
            return 0.0
        return min(similarity / self.threshold, 1.0) if self.threshold > 0.0 else 1.0
