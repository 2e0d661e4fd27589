"""Logging setup: one event a line on stderr, for people or as JSON. docs/logging.md lists the events.

Library loggers, Python warnings and exceptions of threads go through the same formatter. kafka-python logs the SASL
password at DEBUG, so its records below WARNING are dropped.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, Protocol

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from dugs_stream.errors import DugsError
from dugs_stream.ops.logging.lines import ConsoleLines, JsonLines
from dugs_stream.ops.logging.repeats import Repeats

# uvicorn warns of bad requests, on the event loop that answers probes: while nobody reads stderr, one would silence them.
_QUIET_LIBRARIES = {"kafka": logging.WARNING, "uvicorn": logging.ERROR, "asyncio": logging.WARNING}
_TIMESTAMP = structlog.processors.TimeStamper(fmt="iso", utc=True)


class LineSink(Protocol):
    """Takes finished lines."""

    def write(self, text: str, /) -> object:
        """Take whole lines, newline included."""

    def flush(self) -> object:
        """Return once they are written: called after a line that may be the last."""


class _Stderr:
    """The stderr of the moment; tests and terminals replace it."""

    def write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()

    def flush(self) -> None:
        """Nothing is buffered here."""


class _Lines(logging.Handler):
    """The one handler of the root logger; also takes what `kafka` and other loggers propagate."""

    def __init__(self, sink: LineSink) -> None:
        super().__init__()
        self._sink = sink
        self._repeats = Repeats()
        self.addFilter(self._repeats)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception as error:  # noqa: BLE001  a library that logs wrong arguments still gets a line
            line = self.format(_record("log.unwritable", error=repr(error), of=str(record.msg)))
        try:
            self._sink.write(line + "\n")
            if record.levelno >= logging.CRITICAL:
                self._sink.flush()
        except (OSError, ValueError):  # stderr is closed: no reason to stop
            return

    def close(self) -> None:
        """Report lines held back since their last repetition."""
        for event, held_back in self._repeats.unsaid():
            self.emit(_record("log.repeated", of=event, held_back=held_back))
        super().close()


def _record(event: str, **fields: object) -> logging.LogRecord:
    """A record of this module's own, as structlog would pass it to the handler."""
    return logging.makeLogRecord(
        {
            "name": "dugs",
            "levelno": logging.WARNING,
            "levelname": "WARNING",
            "msg": _TIMESTAMP(None, "", {"event": event, "level": "warning", "logger": "dugs", **fields}),
            "_logger": None,
            "_name": "warning",
        }
    )


def configure_logs(level: str, style: Literal["console", "json"], sink: LineSink | None = None) -> None:
    """Set up structlog and the standard library's logging for the whole process, on stderr or on `sink`."""
    numeric = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        _TIMESTAMP,
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = _Lines(_Stderr() if sink is None else sink)
    handler.setLevel(numeric)  # a logger with a level of its own propagates past the root logger's
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _name_foreign],
            processors=[
                _show_held_back,
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                # Text, and never the variables of each frame: they may hold a secret, and do hold records.
                structlog.processors.format_exc_info,
                JsonLines() if style == "json" else ConsoleLines(colors=_wants_colors()),
            ],
        )
    )
    root = logging.getLogger()
    for before in [each for each in root.handlers if isinstance(each, _Lines)]:
        root.removeHandler(before)
        before.close()
    root.addHandler(handler)
    root.setLevel(numeric)
    for name, floor in _QUIET_LIBRARIES.items():
        logging.getLogger(name).setLevel(max(numeric, floor))
    logging.captureWarnings(True)


def _wants_colors() -> bool:
    """On a terminal that has colours, unless the user declined (https://no-color.org)."""
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _name_foreign(_logger: WrappedLogger, _method: str, fields: EventDict) -> EventDict:
    """A library's message is not an event name: it becomes a field of one of two events."""
    event = "python.warning" if fields.get("logger") == "py.warnings" else "library.message"
    return {**fields, "event": event, "message": str(fields.get("event")).strip()}


def _show_held_back(_logger: WrappedLogger, _method: str, fields: EventDict) -> EventDict:
    held_back = getattr(fields.get("_record"), "held_back", None)
    return fields if held_back is None else {**fields, "held_back": held_back}


@contextmanager
def crashes_logged(style: Literal["console", "json"]) -> Iterator[None]:
    """Log an exception that ends a thread as an event, with its traceback as a field.

    In JSON also one that ends the block: `daemon.failed` for an error raised on purpose, `daemon.crashed` for any
    other. It propagates in either case; on a console the caller prints it for people.
    """
    log = structlog.get_logger("dugs")

    def log_crash(died: threading.ExceptHookArgs) -> None:
        name = None if died.thread is None else died.thread.name
        log.error("thread.crashed", kind=name, exc_info=died.exc_value)

    before, threading.excepthook = threading.excepthook, log_crash
    try:
        yield
    except DugsError as error:
        if style == "json":
            log.critical(
                "daemon.failed", kind=type(error).__name__, error=str(error), exit_code=error.exit_code
            )
        raise
    except Exception as error:
        if style == "json":
            log.critical("daemon.crashed", kind=type(error).__name__, exc_info=True)
        raise
    finally:
        threading.excepthook = before
