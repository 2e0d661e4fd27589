"""Has this line just been said? The same warning or error at most once a minute, with a count of what was held back.

Only lines of level warning and error are held: news (info) has its own pace, one line a micro-batch, and a line of
level critical ends the process and is always said.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# A minute: an operator still sees that it goes on, a night without a broker is 500 lines and not 100 000.
QUIET_SECONDS = 60.0
# The fields that tell one occurrence of an event from another; two damaged files are two pieces of news.
_KINDS = ("kind", "reason", "warning", "remark", "file", "set_aside", "topic")
# Different lines remembered: the kinds of trouble one process has are far fewer, so memory stays bounded in any case.
_MOST_REMEMBERED = 1000


@dataclass(slots=True)
class _Said:
    name: str
    at: float
    held_back: int = 0


class Repeats(logging.Filter):
    """A filter for a handler. What it lets pass after silence carries `held_back`, the number of lines it replaces."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._said: OrderedDict[tuple[str, ...], _Said] = OrderedDict()
        self._guard = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is to be written now."""
        if not logging.WARNING <= record.levelno < logging.CRITICAL:
            return True
        key, now = _key(record), self._clock()
        with self._guard:
            before = self._said.get(key)
            if before is not None and now - before.at < QUIET_SECONDS:
                before.held_back += 1
                return False
            self._said[key] = _Said(key[1], now)
            self._said.move_to_end(key)
            if len(self._said) > _MOST_REMEMBERED:
                self._said.popitem(last=False)
        if before is not None and before.held_back:
            record.held_back = before.held_back
        return True

    def unsaid(self) -> Iterator[tuple[str, int]]:
        """What is still held back: each event with how often it was not written. Asked once, at the end."""
        with self._guard:
            rest = [(said.name, said.held_back) for said in self._said.values() if said.held_back]
            self._said.clear()
        yield from rest


def _key(record: logging.LogRecord) -> tuple[str, ...]:
    """Event and kind of our own lines; of a library's, its logger and the sentence before numbers are filled in."""
    if isinstance(record.msg, Mapping):
        fields: Mapping[str, Any] = record.msg
        return (
            record.name,
            str(fields.get("event")),
            *(str(fields[name]) for name in _KINDS if name in fields),
        )
    if record.name == "py.warnings":  # its sentence is "%s"; the warning is what is filled in
        return (record.name, record.getMessage())
    return (record.name, str(record.msg))
