"""SIGTERM and SIGINT as flags that the daemon asks between its steps.

The first signal lets the micro-batch in hand finish, for a bounded time; after that it is abandoned, which costs only
doing it again, since no offset has moved. A second signal leaves at once.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from time import monotonic
from types import FrameType

# Long enough for a usual micro-batch (256 images of an AlexNet: under a second on two cores) and its
# commit; well below the 30 s that orchestrators and systemd allow before they kill.
GRACE_SECONDS = 10.0
# Decoding takes a fraction of that, unless a codec hangs; to do it again costs little, and the stop is to be felt at once.
DECODING_GRACE_SECONDS = 2.0


class Stopping:
    """Whether to stop, and whether to stop even in the middle of a micro-batch."""

    def __init__(self, grace_seconds: float = GRACE_SECONDS) -> None:
        self.event = Event()
        self._grace_seconds = grace_seconds
        self._requested_at: float | None = None

    def request(self) -> None:
        """Ask for the stop; asking again changes nothing."""
        if self._requested_at is None:
            self._requested_at = monotonic()
            self.event.set()

    @property
    def requested(self) -> bool:
        """Whether to begin no further micro-batch."""
        return self.event.is_set()

    @property
    def is_impatient(self) -> bool:
        """Whether the grace for the micro-batch in hand is over."""
        return self._is_requested_for(self._grace_seconds)

    @property
    def has_decoded_enough(self) -> bool:
        """Whether to give up a micro-batch that is still being decoded."""
        return self._is_requested_for(min(self._grace_seconds, DECODING_GRACE_SECONDS))

    def _is_requested_for(self, seconds: float) -> bool:
        return self._requested_at is not None and monotonic() - self._requested_at > seconds


@contextmanager
def signals_as_flags(
    stopping: Stopping, before_leaving: Callable[[], object] = lambda: None
) -> Iterator[None]:
    """Turn SIGTERM and SIGINT into `stopping.request()`, a second one into leaving at once (exit 1).

    Only the main thread may call it. The handlers before are put back. `before_leaving` is called by the second
    signal, at any point of the main thread: it may take no lock.
    """

    def note(_number: int, _frame: FrameType | None) -> None:
        if stopping.requested:
            before_leaving()
            os._exit(1)  # no clean-up: the next recovery undoes what is half done
        stopping.request()

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
