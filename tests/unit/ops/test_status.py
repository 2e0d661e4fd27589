"""Readiness: what is missing, and a log that does not answer."""

from __future__ import annotations

import pytest

from dugs_stream.ops import status as module
from dugs_stream.ops.status import Status


@pytest.fixture
def status() -> Status:
    """A daemon's that lacks nothing."""
    status = Status()
    status.has("log")
    status.has("state")
    return status


def test_log_that_is_slow_to_answer_is_missing_until_it_does(
    status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has to notice: the waiting thread cannot, and readiness is asked for by another."""
    now = [100.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    status.awaits_log("publish")
    assert status.as_facts()["ready"]

    now[0] += 6

    assert status.missing == {"log": "unreachable: no answer for 6 s (publish)"}
    assert not status.as_facts()["ready"]
    status.lacks("log", "TLS: the certificate has expired")
    assert status.missing == {"log": "TLS: the certificate has expired"}
    status.has("log")
    status.awaits_log(None)
    assert status.as_facts()["ready"]


def test_lost_connections_are_told_while_nobody_asks_the_log(status: Status) -> None:
    """A batch may be computed for half a minute; a connection that was lost a moment ago is being made anew."""
    status.cut_off_seconds = lambda: 4.0
    assert status.as_facts()["ready"]

    status.cut_off_seconds = lambda: 6.0

    assert status.missing == {"log": "unreachable: no connection for 6 s"}
