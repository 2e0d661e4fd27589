"""Log line formats: an event as one line of JSON, or as text for people.

No value of a record can end a line, begin another or move a terminal's cursor: control characters are written as
escapes. Rendering never raises: a value that cannot be written is replaced by a description of it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import structlog
from structlog.typing import EventDict, WrappedLogger

# Logs are flat, and a list that contains itself must end somewhere.
_DEEPEST = 6
# First in a line of JSON; what follows is in the order in which it was given.
_FIRST = ("timestamp", "level", "event", "logger")
# Marks a traceback's lines on a console: no log line begins with it.
_TRACE_MARGIN = "    | "


def printable(text: str) -> str:
    """The text on one line, safe on any terminal: invisible characters (controls, directions) as escapes."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _escaped(each) for each in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def plain(value: Any, depth: int = 0) -> Any:
    """The value in JSON's own types; numbers that JSON lacks (NaN, infinity) as text."""
    if isinstance(value, str):
        return str(value)
    if value is None or isinstance(value, bool | int | float):
        is_number = value is None or math.isfinite(value)
        return value if is_number else str(value)
    if depth < _DEEPEST and isinstance(value, Mapping):
        return {str(key): plain(inner, depth + 1) for key, inner in value.items()}
    if depth < _DEEPEST and isinstance(value, list | tuple | set | frozenset):
        return [plain(inner, depth + 1) for inner in value]
    return str(value) if isinstance(value, PurePath | BaseException) else repr(value)


class JsonLines:
    """A structlog processor: one JSON object a line, pure ASCII, a traceback as the field `exception`."""

    def __call__(self, _logger: WrappedLogger, _method: str, fields: EventDict) -> str:
        try:
            ordered = {name: fields.pop(name) for name in _FIRST if name in fields}
            return json.dumps(plain({**ordered, **fields}), allow_nan=False)
        except Exception as error:  # noqa: BLE001  logging must not end what it reports
            fallback = {
                "level": "error",
                "event": "log.unwritable",
                "error": repr(error),
                "of": str(fields.get("event")),
            }
            return json.dumps(fallback)


class ConsoleLines:
    """A structlog processor: time, level, event, then name=value; a traceback's lines under it, with a margin."""

    def __init__(self, *, colors: bool) -> None:
        self._render = structlog.dev.ConsoleRenderer(colors=colors, sort_keys=False)

    def __call__(self, logger: WrappedLogger, method: str, fields: EventDict) -> str:
        try:
            return self._lines(logger, method, fields)
        except Exception as error:  # noqa: BLE001  logging must not end what it reports
            return f"log.unwritable of={printable(repr(fields.get('event')))} error={printable(repr(error))}"

    def _lines(self, logger: WrappedLogger, method: str, fields: EventDict) -> str:
        traces = [str(fields.pop(name)) for name in ("exception", "stack") if fields.get(name)]
        if fields.get("logger") == "dugs":
            del fields["logger"]
        head = {name: printable(str(fields.pop(name))) for name in _FIRST if name in fields}
        shown = {printable(str(name)): _shown(value) for name, value in fields.items()}
        line = str(self._render(logger, method, {"event": "", **head, **shown}))
        below = [_TRACE_MARGIN + printable(each) for trace in traces for each in trace.splitlines()]
        return "\n".join([line, *below])


class _Shown:
    """Text that appears in a line unquoted: structlog prints the repr of anything but a string."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _shown(value: Any) -> _Shown:
    """A value as printed behind its name; text is quoted if it could be taken for several values."""
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        return _Shown(printable(repr(plain(value))))
    if value is None or isinstance(value, bool | int | float):
        return _Shown(str(value))
    text = printable(str(value))
    is_one_word = text and not any(each in ' "=' for each in text)
    return _Shown(text if is_one_word else '"' + text.replace('"', '\\"') + '"')
