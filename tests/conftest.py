"""Fixtures that more than one kind of test asks for: the real Kafka broker."""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

from tools.broker import BrokerError, running_broker

REUSED = "DUGS_TEST_KAFKA"

# kafka-python 3.0.12 drops the socket of a connection that was refused, or was not up yet when its client was
# closed, without closing it. The collector does; where warnings are errors, some test has to answer for it.
UNCLOSED_SOCKET = "ignore:unclosed <socket:ResourceWarning"

# A machine that does other things as well is no counterexample: what examples cost is measured in benchmarks/.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

_modules_with_a_broker: set[Path] = set()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the modules that use the broker answer for the sockets that kafka-python drops."""
    _modules_with_a_broker.update(item.path for item in items if item.get_closest_marker("broker"))
    for item in items:
        if item.path in _modules_with_a_broker:
            item.add_marker(pytest.mark.filterwarnings(UNCLOSED_SOCKET))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, object, object]:
    """Collect them with the last test of their module, so that no test elsewhere meets them.

    Behind its teardown: until then the log records that pytest keeps of it hold on to errors, and they to sockets.
    """
    outcome = yield
    is_last = nextitem is None or nextitem.path != item.path
    if is_last and item.path in _modules_with_a_broker:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
    return outcome


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
