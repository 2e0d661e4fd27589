"""Driving a log through the port as the daemon does, in a line each."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from dugs_stream.log.port import BatchLimits, Committed, Log, Outgoing, Ownership, Polled
from dugs_stream.records import Message

if TYPE_CHECKING:
    from dugs_stream.log.port import LogReader

LIMITS = BatchLimits(records=100, wait_ms=100, bytes=64 * 1024 * 1024)
TRAILER_KEY = b"trailer"


def stop_after(seconds: float) -> Callable[[], bool]:
    """A `stop` that says so after `seconds`."""
    ends_at = time.monotonic() + seconds
    return lambda: time.monotonic() >= ends_at


def acquired(log: Log, within_seconds: float = 30.0) -> Ownership:
    """The ownership, or a failure that says for how long it was waited."""
    ownership = log.acquire(stop_after(within_seconds))
    assert ownership is not None, f"the input was not given to this member within {within_seconds} s"
    return ownership


def resume(log: Log, within_seconds: float = 30.0) -> Ownership:
    """Acquire, and go on where the group's offsets say, or at the beginning."""
    ownership = acquired(log, within_seconds)
    log.seek({**ownership.beginnings, **ownership.committed})
    return ownership


def poll_until(log: Log, records: int, within_seconds: float = 30.0, limits: BatchLimits = LIMITS) -> Polled:
    """The first micro-batch with anything in it, which has to hold at least `records`."""
    ends_at = time.monotonic() + within_seconds
    while time.monotonic() < ends_at:
        polled = log.poll(limits)
        if not polled.is_empty:
            assert len(polled.records) >= records
            return polled
    raise TimeoutError(f"nothing was polled within {within_seconds} s")


def commit(log: Log, polled: Polled, outgoing: Mapping[str, list[Message]], changelog: str) -> Committed:
    """One transaction as the daemon writes it: outputs, changelog, a trailer, the offsets."""
    messages = [Outgoing(topic, message) for topic, some in outgoing.items() for message in some]
    trailer = Outgoing(changelog, Message(TRAILER_KEY, b"{}"))
    with log.transaction(polled) as transaction:
        flushed = transaction.publish([*messages, trailer])
        staged = transaction.stage_offsets(flushed, polled.next_offsets)
        return transaction.commit(staged)


def read_values(reader: LogReader, topic: str) -> list[bytes | None]:
    """The committed values of a topic, from the beginning to its end."""
    return [sample.value for sample in reader.read(topic, follow=False, stop=threading.Event().is_set)]


def replayed_values(log: Log, ownership: Ownership) -> list[bytes | None]:
    """The committed values of the changelog, as recovery reads them."""
    messages = log.read_changelog(ownership.changelog_start, ownership.changelog_end)
    return [message.value for _position, message in messages]
