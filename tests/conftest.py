"""What all tests share: the real Kafka broker, parallel runs, and an answer for the sockets that kafka-python drops."""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.support.parallel import BrokerServer, GroupScheduling, in_order_of_play, shared_broker
from tools.broker import BrokerError, running_broker

REUSED = "DUGS_TEST_KAFKA"

# kafka-python 3.0.12 drops the socket of a connection that was refused, or was not up yet when its client was
# closed, without closing it. The collector does; where warnings are errors, some test has to answer for it.
UNCLOSED_SOCKET = "ignore:unclosed <socket:ResourceWarning"

# A machine that does other things as well is no counterexample: what examples cost is measured in benchmarks/.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

_modules_with_a_broker: set[Path] = set()


_server = pytest.StashKey[BrokerServer]()


def pytest_configure(config: pytest.Config) -> None:
    """The process that starts workers holds their broker; torch's threads would spin for each other's turn."""
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        os.environ["OMP_NUM_THREADS"] = "1"
        os.environ["OMP_WAIT_POLICY"] = "passive"  # where a test takes two threads, the one that waits sleeps
        config.stash[_server] = BrokerServer()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """A worker is told where to ask for the broker."""
    node.workerinput["broker_server"] = node.config.stash[_server].address


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> GroupScheduling:
    """Which tests are played in a row is written down in one place."""
    return GroupScheduling(config, log)


def pytest_unconfigure(config: pytest.Config) -> None:
    """The workers' broker ends behind them."""
    if _server in config.stash:
        config.stash[_server].close()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the order of a parallel run; let the modules that use the broker answer for the sockets dropped there."""
    if hasattr(config, "workerinput"):
        places = in_order_of_play([item.nodeid for item in items])
        items.sort(key=lambda item: places[item.nodeid])
    _modules_with_a_broker.update(item.path for item in items if item.get_closest_marker("broker"))
    for item in items:
        if item.path in _modules_with_a_broker:
            item.add_marker(pytest.mark.filterwarnings(UNCLOSED_SOCKET))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Leave the tests themselves, 700,000 objects, out of each later collection: it would take a third of a second."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, object, object]:
    """Collect them before a test of a module without a broker comes, which would be blamed for them.

    Behind its teardown: until then the log records that pytest keeps of it hold on to errors, and they to sockets.
    """
    outcome = yield
    is_last = nextitem is None or nextitem.path not in _modules_with_a_broker
    if is_last and item.path in _modules_with_a_broker:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
    return outcome


@pytest.fixture(scope="session")
def kafka_address(request: pytest.FixtureRequest) -> Iterator[str]:
    """host:port of a real Kafka broker: the one that DUGS_TEST_KAFKA names, the workers', or one of our own.

    Without Java or Maven the test fails and says what to install: a suite that skips its broker tests in
    silence is green and means nothing.
    """
    with ExitStack() as held:
        try:
            if address := os.environ.get(REUSED):
                yield address
            elif hasattr(request.config, "workerinput"):
                yield shared_broker(request.config.workerinput["broker_server"])
            else:
                yield held.enter_context(running_broker()).address
        except BrokerError as error:
            pytest.fail(str(error), pytrace=False)
