"""Rate limit of repeated log lines: the same warning or error once a minute, with a count of those held back.

Only levels warning and error are limited: info comes once a micro-batch, and a critical line ends the process.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

# A minute: an operator still sees that it continues; a night without a broker is 500 lines and not 100 000.
QUIET_SECONDS = 60.0
# Fields that tell two occurrences of an event apart: two damaged files are both logged.
_KINDS = ("kind", "reason", "warning", "remark", "file", "set_aside", "topic")
_NUMBER = re.compile(r"\d+")
# Bounds the memory; a process logs far fewer kinds of trouble.
_MOST_REMEMBERED = 1000


@dataclass(slots=True)
class _Said:
    name: str
    at: float
    held_back: int = 0


class Repeats(logging.Filter):
    """Filter for a handler. A record passed after a pause carries `held_back`, the number of lines it stands for."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._said: OrderedDict[tuple[str, ...], _Said] = OrderedDict()
        self._guard = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write the line now."""
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
        """Each event still held back, with how often it was not written; empties the memory. Called once, at the end."""
        with self._guard:
            rest = [(said.name, said.held_back) for said in self._said.values() if said.held_back]
            self._said.clear()
        yield from rest


def _key(record: logging.LogRecord) -> tuple[str, ...]:
    """Event and kind of our own lines; for a library, its logger and its message without arguments and numbers.

    Some libraries format before they log (kafka-python: "… failed (backoff 0.53 secs)"), so numbers are left out.
    """
    if isinstance(record.msg, Mapping):
        fields: Mapping[str, Any] = record.msg
        return (
            record.name,
            str(fields.get("event")),
            *(str(fields[name]) for name in _KINDS if name in fields),
        )
    if record.name == "py.warnings":  # its message is "%s", the warning its argument
        return (record.name, record.getMessage())
    return (record.name, _NUMBER.sub("#", str(record.msg)))
