"""How the daemon speaks: one event a line on stderr, for people or as JSON.

Loggers of libraries go through the same formatter. kafka-python writes the SASL password at DEBUG and a
line a second while a broker is away, so its loggers stay silent here; what matters of it arrives
as an error of ours with a way out.
"""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog
from structlog.typing import Processor

__all__ = ["LEVELS", "configure_logs"]

LEVELS = ("debug", "info", "warning", "error")
_QUIET_LIBRARIES = {"kafka": logging.CRITICAL, "uvicorn": logging.WARNING, "asyncio": logging.WARNING}


def configure_logs(level: str, style: Literal["console", "json"]) -> None:
    """Set up structlog and the standard library's logging for the whole process, on stderr."""
    numeric = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
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
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendering(style)],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(numeric)
    for name, floor in _QUIET_LIBRARIES.items():
        logging.getLogger(name).setLevel(max(numeric, floor))


def _rendering(style: Literal["console", "json"]) -> list[Processor]:
    if style == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
