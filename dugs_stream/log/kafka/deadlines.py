"""How does a call of kafka-python that has no deadline of its own get one?"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from kafka.errors import KafkaTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable


def call_within(seconds: float, doing: str, call: Callable[[], Any]) -> Any:
    """`call()` in a thread of its own: its result or exception, or KafkaTimeoutError when it takes too long.

    A call that was given up on may still end later; so it must be one that does no harm then. Putting offsets
    into a transaction and aborting it are such: only a commit, which is never asked for afterwards, gives
    them effect. A commit itself has log.watchdog.
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
