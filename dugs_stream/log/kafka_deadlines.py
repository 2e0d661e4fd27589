"""How does a call of kafka-python end that might never return?

Two answers: give up waiting for it (`call_within`), where giving up is safe, or end the process
(`process_ends_unless_done_within`), where only a fresh start can tell what happened.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kafka.errors import KafkaTimeoutError

from dugs_stream.errors import OutcomeUnknownError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["call_within", "process_ends_unless_done_within"]


def call_within(seconds: float, doing: str, call: Callable[[], Any]) -> Any:
    """`call()` in a thread of its own: its result or exception, or KafkaTimeoutError when it takes too long.

    A call that was given up on may still end later; so it must be one that does no harm then. Putting offsets
    into a transaction and aborting it are such: only a commit, which is never asked for afterwards, gives
    them effect.
    """
    outcome: list[Any] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(call())
        except BaseException as error:  # noqa: BLE001 (handed to the caller as it is)
            failure.append(error)

    thread = threading.Thread(target=run, name=f"dugs {doing}", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise KafkaTimeoutError(f"{doing} did not end within {seconds} s")
    if failure:
        raise failure[0]
    return outcome[0]


@contextmanager
def process_ends_unless_done_within(
    seconds: float, doing: str, end: Callable[[int], None] = os._exit
) -> Iterator[None]:
    """End the process with exit code 70 where the block does not return in time: its outcome is unknown.

    No clean-up runs: whatever hangs would hang in it too, and recovery at the next start undoes what is half
    done.
    """

    def give_up() -> None:
        sys.stderr.write(
            f"dugs: {doing} did not return within {seconds:g} s, so whether it happened is unknown. Leaving with "
            f"exit code {OutcomeUnknownError.exit_code}; start again: recovery finds out.\n"
        )
        sys.stderr.flush()
        end(OutcomeUnknownError.exit_code)

    watchdog = threading.Timer(seconds, give_up)
    watchdog.daemon = True
    watchdog.start()
    try:
        yield
    finally:
        watchdog.cancel()
