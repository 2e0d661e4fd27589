"""Listener of a study: who hears of its stages, and may ask it to finish early."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

OnStage = Callable[[str], None]
OnProgress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told of the stages, and asks to stop early: then what is done so far is the result."""

    stage: OnStage = lambda _text: None
    progress: OnProgress = lambda _done, _total: None
    wants_stop: Callable[[], bool] = lambda: False


PATIENCE_SECONDS = 10.0
"""After an interrupt: what was read by then is worth a moment, and not the minutes that a whole study takes."""


def patience(clock: Callable[[], float] = time.perf_counter) -> Callable[[], bool]:
    """Whether it is over, from now on."""
    end = clock() + PATIENCE_SECONDS
    return lambda: clock() >= end
