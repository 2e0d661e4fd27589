"""Arrivals of a target that moves: records of its topic that one thread reads and another one projects.

Only the newest of each partition are kept, as many as the target may hold; older ones would have left it before they
were projected. So a topic that floods costs no memory, and nobody waits for it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from dugs_stream.records import Record

_LOOK_SECONDS = 0.2
"""How often the reading thread, while it waits for room, looks whether to stop."""


@dataclass(frozen=True, slots=True)
class Portion:
    """Records that are to be projected now, each partition's in order.

    partitions  how many the topic has
    topics      how many topics of the name there were before this one: what is known of another one is void
    """

    records: tuple[Record, ...]
    partitions: int
    topics: int


class Arrivals:
    """Records that came and were not taken yet. One thread offers, one takes.

    most        records of the whole target; each partition has the same share of them
    most_bytes  that are kept; the thread that offers waits then
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._waiting: dict[int, deque[Record]] = {}
        self._bytes = 0
        self._partitions = 1
        self._topics = self._topics_told = 0
        self._room = threading.Condition()

    def topic_found(self, partitions: int, *, is_another: bool) -> None:
        """The topic has so many partitions; with `is_another` it was made anew, and what came before is of no use."""
        with self._room:
            self._partitions = partitions
            if is_another:
                self._topics += 1
                self._waiting, self._bytes = {}, 0

    def offer(self, record: Record, stop: Callable[[], bool]) -> None:
        """Add one, and drop the oldest of its partition if it has more than its share; waits for room until `stop`."""
        with self._room:
            while self._bytes >= self._most_bytes:
                if stop():
                    return
                self._room.wait(_LOOK_SECONDS)
            waiting = self._waiting.setdefault(record.partition, deque())
            waiting.append(record)
            self._bytes += _size(record)
            self._keep_to_the_share(waiting)

    @property
    def has_news(self) -> bool:
        """Whether any wait, or the topic is another one than when they were taken last."""
        with self._room:
            return self._topics_told != self._topics or any(self._waiting.values())

    def take(self, most: int) -> Portion:
        """The oldest that wait, at most so many, from all partitions in turn: none of them keeps the others waiting."""
        taken: list[Record] = []
        with self._room:
            while len(taken) < most and (turn := [each for each in self._waiting.values() if each]):
                taken += [each.popleft() for each in turn[: most - len(taken)]]
            self._bytes -= sum(map(_size, taken))
            self._topics_told = self._topics
            self._room.notify_all()
            return Portion(tuple(taken), self._partitions, self._topics)

    def give_back(self, portion: Portion) -> None:
        """They were not projected, and wait again before those that came since."""
        with self._room:
            if portion.topics != self._topics:
                return
            for record in reversed(portion.records):
                self._waiting.setdefault(record.partition, deque()).appendleft(record)
                self._bytes += _size(record)
            for waiting in self._waiting.values():
                self._keep_to_the_share(waiting)

    def _keep_to_the_share(self, waiting: deque[Record]) -> None:
        while len(waiting) > share_of(self._most, self._partitions):
            self._bytes -= _size(waiting.popleft())


def share_of(most: int, partitions: int) -> int:
    """How many records of each partition a target of at most so many takes; one of each at least."""
    return max(1, most // max(1, partitions))


def _size(record: Record) -> int:
    """Bytes that a record counts for; one without any counts too."""
    return len(record.value or b"") + len(record.key or b"") + 1
