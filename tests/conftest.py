"""Fixtures that more than one kind of test asks for: the real Kafka broker."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support.broker import BrokerError, running_broker

REUSED = "DUGS_TEST_KAFKA"


@pytest.fixture(scope="session")
def kafka_address() -> Iterator[str]:
    """host:port of a real Kafka broker: one of our own for the session, or the one that DUGS_TEST_KAFKA names.

    Without Java or Maven the test fails and says what to install: a suite that skips its broker tests in
    silence is green and means nothing.
    """
    reused = os.environ.get(REUSED)
    if reused:
        yield reused
        return
    running = running_broker()
    try:
        broker = running.__enter__()
    except BrokerError as error:
        pytest.fail(str(error), pytrace=False)
    try:
        yield broker.address
    finally:
        running.__exit__(None, None, None)
