"""A line that comes again within a minute is held back and counted, and no other."""

from __future__ import annotations

import logging

import pytest

from dugs_stream.ops.logging.repeats import QUIET_SECONDS, Repeats


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def said(level: int, **fields: object) -> logging.LogRecord:
    return logging.makeLogRecord({"name": "dugs", "levelno": level, "msg": fields})


def test_same_warning_is_logged_once_a_minute_with_a_count() -> None:
    """Lines held back are counted, and the next line carries the count."""
    clock = Clock()
    repeats = Repeats(clock)

    heard = [
        repeats.filter(said(logging.WARNING, event="ownership.void", kind="x", at=n)) for n in range(100)
    ]
    clock.now = QUIET_SECONDS + 1
    next_one = said(logging.WARNING, event="ownership.void", kind="x")

    assert heard == [True] + [False] * 99
    assert repeats.filter(next_one)
    assert next_one.held_back == 99  # type: ignore[attr-defined]
    assert list(repeats.unsaid()) == []


def test_other_kind_of_the_same_event_is_logged() -> None:
    """Two damaged files, two reasons, two remarks are all logged."""
    repeats = Repeats(Clock())
    records = [
        {"event": "state.damaged", "file": "a"},
        {"event": "state.damaged", "file": "b"},
        {"event": "records.rejected", "reason": "empty"},
        {"event": "records.rejected", "reason": "wrong_shape"},
        {"event": "recovery.remark", "remark": "one"},
        {"event": "recovery.remark", "remark": "two"},
    ]

    assert all(repeats.filter(said(logging.WARNING, **fields)) for fields in records)
    assert not any(repeats.filter(said(logging.WARNING, **fields)) for fields in records)


@pytest.mark.parametrize("level", [logging.INFO, logging.DEBUG, logging.CRITICAL])
def test_other_levels_are_never_held_back(level: int) -> None:
    """A micro-batch's summary comes at its own rate; a line that ends the process is always written."""
    repeats = Repeats(Clock())

    assert all(repeats.filter(said(level, event="daemon.failed")) for _ in range(5))


def test_library_message_is_the_same_under_any_arguments_and_numbers() -> None:
    """Attempt 1, 2, 3 … is one complaint, whether the library fills in the number before it logs or leaves it to us."""
    repeats = Repeats(Clock())
    facts = {"name": "kafka.net.manager", "levelno": logging.ERROR}
    records = [
        logging.makeLogRecord({**facts, **message})
        for n in range(3)
        for message in ({"msg": "attempt %s", "args": (n,)}, {"msg": f"failed (backoff {n / 7:.2f} secs)"})
    ]

    assert [repeats.filter(record) for record in records] == [True, True, False, False, False, False]


def test_memory_of_lines_is_bounded() -> None:
    """A library with a new message each time cannot fill it."""
    repeats = Repeats(Clock())
    for number in range(5000):
        repeats.filter(said(logging.WARNING, event=f"event.{number}"))

    assert len(repeats._said) <= 1000
