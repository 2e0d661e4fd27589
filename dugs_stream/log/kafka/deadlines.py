"""Deadlines of the Kafka engine: how long each step may take, as one record.

Each deadline lies above what it waits for and below what waits for it:
request 10 < delivery 20 < flush 25 < transaction 30 < commit watchdog 45.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Handed to the engine; tests hand it shorter ones, in the same order."""

    # One request: a thousand times the usual answer, so that only a stalled broker is given up.
    request_seconds: float = 10.0
    # One message, all its retries included.
    delivery_seconds: float = 20.0
    flush_seconds: float = 25.0
    # The broker aborts a transaction of this age: for longer than that, a dead owner's hides no later records from readers.
    transaction_seconds: float = 30.0
    # An older transaction is not committed any more: the broker may be aborting it at this moment.
    oldest_commit_seconds: float = 25.0
    # Offsets into the transaction: one round trip to two coordinators, within the transaction's age.
    stage_seconds: float = 15.0
    abort_seconds: float = 5.0
    # After 30 s plus the broker's own round of 10 s a transaction is decided: a commit that has not returned by then
    # never will, and a fresh start finds a settled log.
    commit_watchdog_seconds: float = 45.0
    # From one poll to the next. Computing a micro-batch, or replaying a changelog, must end before the group gives the
    # input to another member: ten times what the daemon lets a micro-batch take (daemon.pacing), and the end of an
    # owner that hangs.
    poll_interval_seconds: float = 300.0


DEADLINES = Deadlines()


def ms(seconds: float) -> int:
    """Whole milliseconds, as kafka-python counts."""
    return int(seconds * 1000)
