"""Waiting for a condition with a deadline, so that no test sleeps and hopes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")

# 10 ms between looks: short beside anything a test waits for, long enough to leave the processor to it.
_LOOK_EVERY_SECONDS = 0.01


def wait_until(
    condition: Callable[[], Value],
    deadline_seconds: float,
    expected: str = "",
    look_every_seconds: float = _LOOK_EVERY_SECONDS,
) -> Value:
    """Ask `condition` until its answer is true and return that answer.

    Raises TimeoutError after `deadline_seconds`, naming `expected` (or the condition) and the last answer.
    """
    ends_at = time.monotonic() + deadline_seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() >= ends_at:
            named = expected or getattr(condition, "__name__", repr(condition))
            raise TimeoutError(f"waited {deadline_seconds} s for {named}; the last answer was {answer!r}")
        time.sleep(look_every_seconds)
