"""Patience with a log that does not answer: the same pauses wherever the daemon waits for one."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    sleep_using_event,
    stop_when_event_set,
    wait_random_exponential,
)

LONGEST_RETRY_SECONDS = 10.0
"""Bounds the wait after a long absence, and the noise in the log while it lasts."""

_FIRST_RETRY_SECONDS = 0.25
"""A broker restarts within seconds, so try again soon at first."""


def patience(
    stopping: Event,
    is_worth_waiting_for: Callable[[BaseException], bool],
    before_wait: Callable[[BaseException], None],
) -> Retrying:
    """Calls what it is given again while it raises such errors; None once told to stop. `before_wait` hears each of them."""

    def tell(attempt: RetryCallState) -> None:
        error = attempt.outcome.exception() if attempt.outcome is not None else None
        if error is not None:
            before_wait(error)

    return Retrying(
        retry=retry_if_exception(is_worth_waiting_for),
        wait=wait_random_exponential(_FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS),
        stop=stop_when_event_set(stopping),
        sleep=sleep_using_event(stopping),
        before_sleep=tell,
        retry_error_callback=lambda _state: None,
    )
