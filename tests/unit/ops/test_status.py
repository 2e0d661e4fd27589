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
    status.awaits_log("publish")
    assert status.as_facts()["ready"]

    monkeypatch.setattr(module, "LONGEST_ANSWER_SECONDS", -1.0)

    assert status.missing == {"log": "unreachable: no answer for 0 s (publish)"}
    assert not status.as_facts()["ready"]
    status.awaits_log(None)
    assert status.as_facts()["ready"]


def test_known_cause_is_told_rather_than_the_silence(status: Status, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the log said of itself says more."""
    monkeypatch.setattr(module, "LONGEST_ANSWER_SECONDS", -1.0)
    status.awaits_log("publish")
    status.lacks("log", "TLS: the certificate has expired")

    assert status.missing == {"log": "TLS: the certificate has expired"}
