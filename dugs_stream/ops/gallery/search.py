"""Search over the uniques by label, category, id, key or sequence number, a page at a time.

Without a filter a page is one slice of the list. The first filter reads the labels and names of all uniques into
memory: about 20 µs and 300 bytes a unique, so an instance whose page is never filtered pays nothing.
"""

from __future__ import annotations

import itertools
import re
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from threading import Lock
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dugs_stream.ops.gallery.saved_clustering import SavedClustering

UniquesPage = Callable[[int, int], tuple[int, Sequence[Any]]]
"""(offset, limit) → total and that page's events, in sequence order."""

NO_LABEL = "none"
"""The label of a query for uniques without one."""

# About 15 ms a piece: short beside the time limits of a query.
_READ_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Query:
    """A page of the uniques that match.

    label        the name of a class, else its number, else `NO_LABEL`
    text         part of the record's id or key, in any case; or #17 for a sequence number
    newest       from the last unique to the first
    below        only sequence numbers below this, so that pages do not shift while new uniques come
    category     its number in the saved clustering, from 1; 0 for uniques that it does not hold
    by_category  category by category, those without one last, and by sequence number within each
    least_value  only those whose value for the newest target is at least this
    by_value     the highest value for the newest target first, those without one last
    """

    offset: int = 0
    limit: int = 100
    label: str | None = None
    text: str | None = None
    newest: bool = False
    below: int | None = None
    category: int | None = None
    by_category: bool = False
    least_value: float | None = None
    by_value: bool = False

    @property
    def needs_all(self) -> bool:
        """Whether the events of all uniques must have been read."""
        return self.label is not None or bool(self.text) or self.least_value is not None or self.by_value


@dataclass(frozen=True, slots=True)
class Found:
    """How many match, the page's events, and how many of all uniques were searched."""

    total: int
    events: Sequence[Mapping[str, Any]]
    read: int
    uniques: int


@dataclass(frozen=True, slots=True)
class LabelCount:
    """A label, its class name if it has one, and its number of uniques."""

    label: int | None
    name: str | None
    uniques: int


class UniqueSearch:
    """An index of the uniques' labels and names, read when first needed. Thread-safe.

    clustering  the last saved one; None without one
    """

    def __init__(
        self, uniques: UniquesPage, clustering: Callable[[], SavedClustering | None] = lambda: None
    ) -> None:
        self._uniques = uniques
        self._clustering = clustering
        self._lock = Lock()
        self._forget()

    def _forget(self) -> None:
        self._names: list[str] = []
        self._of_label: dict[int | None, array[int]] = {}
        self._label_names: dict[int | None, str] = {}
        self._values = array("d")
        self._targets = array("q")
        self._target_numbers: dict[str, int] = {}
        self._newest_target = -1

    @property
    def total(self) -> int:
        """How many uniques there are now."""
        return self._uniques(0, 0)[0]

    @property
    def read(self) -> int:
        """How many of them are in memory."""
        return len(self._names)

    def find(self, query: Query, within_seconds: float | None = None) -> Found:
        """The page that matches; with a filter and a time limit, among the uniques read in time."""
        number = _sequence_number(query.text)
        if query.text and number is not None:
            return self._found([number] if number < self.total else [], query, self.total)
        if not query.needs_all:
            total = self.total
            return self._found(range(total), query, total)
        self._catch_up(within_seconds)
        with self._lock:
            return self._found(self._matching(query), query, len(self._names))

    def labels(self, within_seconds: float | None = None) -> list[LabelCount]:
        """Every label among the uniques read in time, the most frequent first."""
        self._catch_up(within_seconds)
        with self._lock:
            counts = [
                LabelCount(label, self._label_names.get(label), len(rows))
                for label, rows in self._of_label.items()
            ]
        return sorted(counts, key=lambda count: (-count.uniques, count.name or "", count.label or 0))

    def categories(self) -> list[tuple[str | None, int]]:
        """The name and the number of uniques of each category, and last of those without one; empty without a clustering."""
        clustering, total = self._clustering(), self.total
        if clustering is None:
            return []
        known = clustering.category[:total]
        counts = np.bincount(known, minlength=len(clustering.names)).tolist()
        return [*zip(clustering.names, counts, strict=True), (None, total - len(known))]

    def category_of(self, sequences: Sequence[int]) -> NDArray[np.int64]:
        """The category of each of these uniques, from 1; 0 without one."""
        found, places = np.zeros(len(sequences), np.int64), np.asarray(sequences, np.int64)
        clustering = self._clustering()
        if clustering is not None:
            is_known = places < len(clustering.category)
            found[is_known] = clustering.category[places[is_known]] + 1
        return found

    def _found(self, matching: Sequence[int], query: Query, read: int) -> Found:
        if query.category is not None:
            at = self.category_of(matching) == query.category
            matching = np.asarray(matching, np.int64)[at].tolist()
        if query.least_value is not None:
            at = self._values_of(matching) >= query.least_value
            matching = np.asarray(matching, np.int64)[at].tolist()
        if query.by_value:
            return self._in_order(
                matching, np.argsort(-self._values_of(matching), kind="stable"), query, read
            )
        if query.by_category:
            return self._found_by_category(matching, query, read)
        end = len(matching) if query.below is None else bisect_left(matching, query.below)
        if query.newest:
            stop = max(0, end - query.offset)
            chosen = list(reversed(matching[max(0, stop - query.limit) : stop]))
        else:
            chosen = list(matching[query.offset : min(end, query.offset + query.limit)])
        return Found(end, self._events(chosen), read, self.total)

    def _found_by_category(self, matching: Sequence[int], query: Query, read: int) -> Found:
        category = self.category_of(matching)
        order = np.argsort(np.where(category == 0, np.iinfo(np.int64).max, category), kind="stable")
        return self._in_order(matching, order, query, read)

    def _in_order(self, matching: Sequence[int], order: NDArray[np.intp], query: Query, read: int) -> Found:
        chosen = order[query.offset : query.offset + query.limit].tolist()
        return Found(len(matching), self._events([matching[place] for place in chosen]), read, self.total)

    def _values_of(self, matching: Sequence[int]) -> NDArray[np.float64]:
        """For the newest target; NaN for uniques without a value, or with one for another target."""
        values = np.array(self._values, np.float64)
        values[np.array(self._targets, np.int64) != self._newest_target] = np.nan
        return values[np.asarray(matching, np.int64)]

    def _matching(self, query: Query) -> Sequence[int]:
        """Sequence numbers in ascending order."""
        rows: Sequence[int] = range(len(self._names))
        if query.label is not None:
            rows = self._of(query.label)
        if query.text:
            wanted = query.text.casefold()
            rows = [row for row in rows if wanted in self._names[row]]
        return rows

    def _of(self, text: str) -> Sequence[int]:
        """The uniques of a class, by its name, else by its number; or those without a label."""
        named = [label for label, name in self._label_names.items() if name == text]
        if named:
            return self._of_label[named[0]]
        if text == NO_LABEL:
            return self._of_label.get(None, ())
        is_number = re.fullmatch(r"-?[0-9]{1,18}", text) is not None
        return self._of_label.get(int(text), ()) if is_number else ()

    def _events(self, sequences: Sequence[int]) -> list[Mapping[str, Any]]:
        """The events; each run of consecutive numbers is read at once."""
        events = {
            event["sequence"]: event
            for start, length in _runs(sorted(sequences))
            for event in self._uniques(start, length)[1]
        }
        return [events[sequence] for sequence in sequences if sequence in events]

    def _catch_up(self, within_seconds: float | None) -> None:
        ends_at = None if within_seconds is None else monotonic() + within_seconds
        with self._lock:
            while ends_at is None or monotonic() < ends_at:
                total, events = self._uniques(len(self._names), _READ_AT_ONCE)
                if total < len(self._names):  # the state was reloaded and grows again
                    self._forget()
                    continue
                for event in events:
                    self._add(event)
                if len(events) < _READ_AT_ONCE:
                    return

    def _add(self, event: Mapping[str, Any]) -> None:
        label = event["label"]
        self._of_label.setdefault(label, array("q")).append(len(self._names))
        if "label_name" in event:
            self._label_names[label] = event["label_name"]
        # States of a target that moves are of one series: a later one has seen a few more records.
        target = event.get("value_series") or event.get("value_target")
        value = event.get("value")
        if target is not None:
            self._newest_target = self._target_numbers.setdefault(target, len(self._target_numbers))
        self._targets.append(-1 if target is None else self._newest_target)
        self._values.append(nan if value is None else value)
        self._names.append(f"{event['id']}\n{event['source'].get('key') or ''}".casefold())


def _sequence_number(text: str | None) -> int | None:
    number = re.fullmatch(r"#([0-9]{1,18})[0-9]*", text or "")
    return int(number[1]) if number else None


def _runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(first, length) of each run of consecutive numbers; they ascend."""
    for _, run in itertools.groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
        members = [number for _, number in run]
        yield members[0], len(members)
