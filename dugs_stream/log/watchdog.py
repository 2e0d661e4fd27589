"""Watchdog of a commit: if it never returns, the process ends, because only a fresh start can tell what happened."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from dugs_stream.errors import OutcomeUnknownError

_log = structlog.get_logger("dugs")


@contextmanager
def process_ends_unless_done_within(
    seconds: float, doing: str, end: Callable[[int], None] = os._exit
) -> Iterator[None]:
    """End the process with exit code 70 if the block does not return in time.

    No clean-up runs, since it could hang as well; the recovery of the next start finds the outcome.
    """

    def give_up() -> None:
        why = (
            f"{doing} did not return within {seconds:g} s, so whether it happened is unknown. Leaving with exit code "
            f"{OutcomeUnknownError.exit_code}; start again: recovery finds out."
        )
        if structlog.is_configured():
            _log.critical("commit.unanswered", error=why, exit_code=OutcomeUnknownError.exit_code)
        else:
            sys.stderr.write(f"dugs: {why}\n")
            sys.stderr.flush()
        end(OutcomeUnknownError.exit_code)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
