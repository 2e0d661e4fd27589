"""`dugs retry`: dead letters put back on the input topic, once the cause is fixed.

A record goes back unchanged, as a new record of the input: it gets a new offset and a new verdict, and is counted again.
The dead letter stays. How far each reason was retried is stored in the same transaction as the records; so a second
retry offers only what came later, and a retry that is killed neither loses a record nor sends it twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field

from dugs_stream.app.logs import open_reader, open_redelivery
from dugs_stream.commands.progress import Progress, silent
from dugs_stream.config import Settings
from dugs_stream.log.port import LogReader, Marks
from dugs_stream.outputs.messages import reason_of, retried_from, retried_message
from dugs_stream.outputs.size import message_bytes
from dugs_stream.records import Message, Reason, Record

# One transaction each: well within a transaction's age, and little to do again after a kill.
_PORTION_RECORDS = 500
_PORTION_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Selection:
    """Which dead letters to retry.

    reasons      only these; empty: all but `unreadable`, whose bytes may be damaged and judged as if they were not
    limit        at most this many
    since_ms     only those rejected at this time or later, in milliseconds since 1970
    from_offset  from this offset of the topic on, even if they were retried before
    """

    reasons: frozenset[str] = frozenset()
    limit: int | None = None
    since_ms: int | None = None
    from_offset: int | None = None

    @property
    def kinds(self) -> frozenset[str]:
        """The reasons that are selected."""
        return self.reasons or frozenset(each.value for each in Reason if each is not Reason.UNREADABLE)


@dataclass(slots=True)
class DeadLetters:
    """What was found on the topic, up to `ends`.

    chosen      how many go back, by reason
    cut         too large for the topic when they were rejected: only their first bytes are there
    older       before `since`; only `from_offset` offers them again
    superseded  rejected again after a retry: the later dead letter goes back instead
    left        beyond the limit
    came_back   ids of the records that later dead letters were retried from
    """

    ends: Mapping[int, int]
    chosen: Counter[str] = field(default_factory=Counter)
    cut: int = 0
    older: int = 0
    superseded: int = 0
    left: int = 0
    came_back: frozenset[str] = frozenset()

    @property
    def total(self) -> int:
        """How many records go back."""
        return self.chosen.total()


def look(
    settings: Settings,
    selection: Selection,
    on_progress: Progress = silent,
) -> DeadLetters:
    """What `retry` would do now. Changes nothing."""
    with closing(open_redelivery(settings)) as redelivery, closing(open_reader(settings)) as reader:
        marks = redelivery.marks()
        topic = _Topic(reader, settings.output.dead_letter_topic, marks, selection)
        came_back = set()
        for done, letter in enumerate(topic.letters(), start=1):
            origin = retried_from(letter)
            if origin is not None and reason_of(letter) is not None:
                came_back.add(origin)
            on_progress(done, topic.length)
        found = DeadLetters(topic.ends, came_back=frozenset(came_back))
        for _ in topic.walk(found):
            pass
        return found


def retry(
    settings: Settings,
    selection: Selection,
    seen: DeadLetters,
    on_progress: Progress = silent,
) -> DeadLetters:
    """Put back what `look` has seen; returns what was done. Raises LogError if it stopped early.

    What another retry has sent since `look` is not sent again.
    """
    with closing(open_redelivery(settings)) as redelivery, closing(open_reader(settings)) as reader:
        claimed = redelivery.claim()
        topic = _Topic(reader, settings.output.dead_letter_topic, claimed, selection, seen.ends)
        found, marks = DeadLetters(seen.ends, came_back=seen.came_back), _Marks(claimed, selection)
        portion: list[Message] = []
        size = 0
        for letter, message in topic.walk(found):
            portion.append(message)
            size += message_bytes(message)
            marks.reached(letter.partition, letter.offset + 1)
            if len(portion) >= _PORTION_RECORDS or size >= _PORTION_BYTES:
                redelivery.deliver(portion, marks.known)
                on_progress(found.total, seen.total)
                portion, size = [], 0
        if not found.left:
            for partition, end in seen.ends.items():
                marks.reached(partition, end)
        if portion or marks.have_moved:
            redelivery.deliver(portion, marks.known)
        on_progress(found.total, seen.total)
        return found


class _Marks:
    """How far each reason came; a mark only moves on, and only that of a selected reason."""

    def __init__(self, known: Marks, selection: Selection) -> None:
        self.known: dict[int, dict[str, int]] = {partition: dict(kinds) for partition, kinds in known.items()}
        self.have_moved = False
        self._selected = selection.kinds

    def reached(self, partition: int, offset: int) -> None:
        """Everything selected below the offset is done."""
        marks = self.known.setdefault(partition, {})
        rest = marks.pop("", 0)
        for kind in (reason.value for reason in Reason):
            before = marks.get(kind, rest)
            marks[kind] = max(before, offset) if kind in self._selected else before
            self.have_moved |= marks[kind] != before


class _Topic:
    """The dead-letter topic from where the selection begins up to its ends."""

    def __init__(
        self,
        reader: LogReader,
        name: str,
        marks: Marks,
        selection: Selection,
        ends: Mapping[int, int] | None = None,
    ) -> None:
        self._reader = reader
        self._name = name
        self._selection = selection
        self._marks = {partition: dict(kinds) for partition, kinds in marks.items()}
        beginnings, ends_now = reader.bounds(name)
        self.ends = ends_now if ends is None else ends
        self._start = {
            partition: min(self._mark(partition, kind) for kind in selection.kinds) for partition in self.ends
        }
        firsts = {
            partition: max(beginnings.get(partition, 0), self._start[partition]) for partition in self.ends
        }
        self.length = sum(max(0, end - firsts[partition]) for partition, end in self.ends.items())

    def letters(self) -> Iterator[Record]:
        """Every record there."""
        for letter in self._reader.read(self._name, follow=False, stop=lambda: False, start=self._start):
            if letter.offset < self.ends.get(letter.partition, 0):
                yield letter

    def walk(self, found: DeadLetters) -> Iterator[tuple[Record, Message]]:
        """What goes back, in order, up to the limit; everything selected is counted in `found`."""
        selection = self._selection
        for letter in self.letters():
            reason = reason_of(letter)
            if reason not in selection.kinds or letter.offset < self._mark(letter.partition, reason):
                continue
            message = retried_message(letter)
            if message is None:
                found.cut += 1
            elif (message.headers[-1][1] or b"").decode("utf-8", "replace") in found.came_back:
                found.superseded += 1
            elif selection.since_ms is not None and (letter.timestamp_ms or 0) < selection.since_ms:
                found.older += 1
            elif selection.limit is not None and found.total >= selection.limit:
                found.left += 1
            else:
                found.chosen[reason] += 1
                yield letter, message

    def _mark(self, partition: int, kind: str) -> int:
        """Where letters of this kind begin."""
        if self._selection.from_offset is not None:
            return self._selection.from_offset
        kinds = self._marks.get(partition, {})
        return kinds.get(kind, kinds.get("", 0))
