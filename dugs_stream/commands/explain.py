"""`dugs explain`: the decision on one record and its nearest unique, read from the output topics.

Changes nothing, except that missing topics are made as at any start. The topics are read from their beginning, the
short ones first, up to the first event of the record: of a record that was decided twice (after
`dugs index adopt-offsets`), the first decision is shown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any

from dugs_stream.app.logs import open_log, open_reader, topic_names
from dugs_stream.changelog.wire import EVENT_HEADER
from dugs_stream.commands.progress import Progress, silent
from dugs_stream.config import Settings
from dugs_stream.errors import LogError
from dugs_stream.log.port import LogReader
from dugs_stream.outputs.messages import read_event
from dugs_stream.records import Record

Event = Mapping[str, Any]

_ID = re.compile(r"(?:(?P<topic>[^/]+)/)?(?P<partition>[0-9]+)/(?P<offset>[0-9]+)")


@dataclass(frozen=True, slots=True)
class RecordId:
    """A record's name in every event; without a topic it means the input topic."""

    topic: str
    partition: int
    offset: int

    @classmethod
    def parse(cls, text: str, input_topic: str) -> RecordId | None:
        """From topic/partition/offset or partition/offset; None for anything else."""
        match = _ID.fullmatch(text)
        if match is None:
            return None
        return cls(match["topic"] or input_topic, int(match["partition"]), int(match["offset"]))

    def __str__(self) -> str:
        """As events write it."""
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """A record's event, where it was found (topic/partition/offset), and the event of its nearest unique."""

    event: Event
    found_at: str
    nearest: Event | None


@dataclass(frozen=True, slots=True)
class Absence:
    """No event of the record: the topics that were searched, what that means, and what to do about it."""

    searched: Sequence[str]
    why: str


def explain(settings: Settings, record: RecordId, on_progress: Progress = silent) -> Explanation | Absence:
    """The decision on one record. Raises ConfigurationError if a topic is missing."""
    names = topic_names(settings)
    topics = [topic for topic in (names.unique, names.dead_letter, names.decisions) if topic is not None]
    with closing(open_reader(settings)) as reader:
        search = _Search(reader, topics, on_progress)
        for topic in topics:
            found = search.event_of(topic, record)
            if found is not None:
                event, place = found
                return Explanation(event, place, search.unique(names.unique, event.get("nearest")))
        return Absence(topics, _why_absent(settings, reader, record))


class _Search:
    """Reads topics from their beginning, with one progress over all of them."""

    def __init__(self, reader: LogReader, topics: Sequence[str], on_progress: Progress) -> None:
        self._reader = reader
        self._on_progress = on_progress
        self._done = 0
        self._total = 0
        for topic in topics:
            beginnings, ends = reader.bounds(topic)
            self._total += sum(ends[partition] - beginnings[partition] for partition in ends)

    def event_of(self, topic: str, record: RecordId) -> tuple[Event, str] | None:
        """The event of a record and its place."""
        named = f'"{record}"'.encode()
        for stored in self._reader.read(topic, follow=False, stop=lambda: False):
            self._done += 1
            self._on_progress(self._done, max(self._done, self._total))
            # Parsing costs far more than looking for the name, and almost every event is another record's.
            if not any(named in part for part in _parts(stored)):
                continue
            with suppress(LogError):  # another program put it there
                event = read_event(stored)
                if event.get("id") == str(record):
                    return event, stored.id
        return None

    def unique(self, topic: str, nearest: object) -> Event | None:
        """The event of the unique that another event names."""
        if not isinstance(nearest, Mapping) or nearest.get("id") is None:
            return None
        place = RecordId.parse(str(nearest["id"]), "")
        found = None if place is None else self.event_of(topic, place)
        return None if found is None else found[0]


def _parts(stored: Record) -> list[bytes]:
    """Where an event can be: in a header, or in the value."""
    inner = [value or b"" for name, value in stored.headers if name == EVENT_HEADER]
    return inner or [stored.value or b""]


def _why_absent(settings: Settings, reader: LogReader, record: RecordId) -> str:
    """Not sent yet, not decided yet, or decided and not kept."""
    topic = settings.input.topic
    if record.topic != topic:
        return f"{record.topic!r} is not the input topic of this configuration, which is {topic!r}."
    beginnings, ends = reader.bounds(topic)
    if record.partition not in ends:
        return f"The partitions of {topic!r} are 0 to {max(ends)}."
    if record.offset >= ends[record.partition]:
        return f"There is no such record yet: {topic}/{record.partition} ends at {ends[record.partition]}."
    with closing(open_log(settings)) as log:
        log.prepare()
        next_offset = log.committed_offsets().get(record.partition)
    if next_offset is not None and record.offset < next_offset:
        return _not_kept(settings)
    return _not_decided(settings, record, beginnings[record.partition], next_offset)


def _not_decided(settings: Settings, record: RecordId, beginning: int, next_offset: int | None) -> str:
    place, group = f"{record.topic}/{record.partition}", f"group {settings.input.group!r}"
    if record.offset < beginning:
        return f"Deleted by retention before it was decided: {place} now begins at {beginning}."
    if next_offset is None:
        return f"Not decided yet: {group} has committed nothing of {place}; is the daemon running?"
    return f"Not decided yet: {group} is at {next_offset} of {place}, {record.offset - next_offset} records before it."


def _not_kept(settings: Settings) -> str:
    if settings.output.decisions_topic is None:
        return (
            "It was decided, and is neither unique nor rejected: events of duplicates and of records without a gradient "
            "are kept only if output.decisions_topic names a topic. Set it to keep the verdicts from then on."
        )
    return (
        f"It was decided, and its event is gone: output.decisions_topic was set to "
        f"{settings.output.decisions_topic!r} later, or the retention of that topic deleted it."
    )
