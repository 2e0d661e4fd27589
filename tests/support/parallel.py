"""Parallel runs (`pytest -n 4`): which tests one worker plays in a row, in which order, and the broker they share.

Half of this suite waits for brokers and daemons, half computes: side by side, four workers keep two cores busy. The
process that starts them holds the Kafka broker and starts it for the first worker that asks.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cached_property
from multiprocessing.connection import Client, Listener

import pytest
from xdist.scheduler import LoadScopeScheduling

from tools.broker import BrokerError, running_broker

# Tests that one worker plays in a row: they share what takes seconds to set up, or must not run twice at once. The
# longest stand on top, since nothing makes up for a long group that begins late.
GROUPS = {
    "tests/faults/test_table.py": "faults",
    "tests/secured/": "secured",
    "tests/broker/test_kafka_markers.py": "broker to kill",
    "tests/broker/test_kafka_outages.py": "broker to kill",
    "tests/broker/test_kafka_readiness.py": "broker to kill",
    "tests/deploy/test_systemd_start.py": "systemd",
    "tests/observability/": "prometheus",
    "tests/browser/": "browser",
    "tests/property/test_certified_prefix.py": "native kernel",  # which each process compiles for seconds
    "tests/unit/core/index/test_group_blocks.py": "native kernel",
    "tests/unit/core/index/test_prefix_files.py": "native kernel",
    "tests/unit/core/index/test_search.py": "native kernel",
}
# These share nothing but the broker, and take long: each test goes to the next free worker.
SINGLE = ("tests/benchmarks/", "tests/broker/", "tests/cli/", "tests/daemon/", "tests/faults/", "tests/port/")


def group_of(nodeid: str) -> str:
    """What is played in a row with this test: its group, its file, or nothing but itself."""
    group = next((name for beginning, name in GROUPS.items() if nodeid.startswith(beginning)), None)
    return group or (nodeid if nodeid.startswith(SINGLE) else nodeid.partition("::")[0])


def in_order_of_play(nodeids: Sequence[str]) -> dict[str, tuple[int, float]]:
    """What to sort the tests by: groups come first, in their order; then each folder is spread evenly over the run.

    So tests that wait, such as those of the daemon, are played beside tests that compute, such as those of a unit.
    """
    named = list(dict.fromkeys(GROUPS.values()))
    by_folder: dict[str, dict[str, None]] = {}
    for nodeid in nodeids:
        group = group_of(nodeid)
        if group not in named:
            by_folder.setdefault("/".join(nodeid.split("/")[:2]), {})[group] = None
    places = {group: (0, float(at)) for at, group in enumerate(named)}
    for groups in by_folder.values():
        places |= {group: (1, (at + 0.5) / len(groups)) for at, group in enumerate(groups)}
    return {nodeid: places[group_of(nodeid)] for nodeid in nodeids}


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Hands whole groups to workers, in the order in which they were collected."""

    def __init__(self, config: pytest.Config, log: object = None) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


class BrokerServer:
    """Starts one broker for the first worker that asks, and tells all of them its address."""

    def __init__(self) -> None:
        self._listener = Listener(backlog=64)
        self._held = ExitStack()
        self._lock = threading.Lock()
        threading.Thread(target=self._serve, name="broker-server", daemon=True).start()

    @property
    def address(self) -> str:
        """What `shared_broker` takes."""
        return str(self._listener.address)

    def close(self) -> None:
        """End the broker, after the workers."""
        with self._lock:
            self._held.close()

    def _serve(self) -> None:
        while True:
            with self._listener.accept() as connection, self._lock:
                connection.send(self._answer)

    @cached_property
    def _answer(self) -> tuple[str, str]:
        """The broker's address, or what kept it from starting."""
        try:
            return self._held.enter_context(running_broker()).address, ""
        except BrokerError as error:
            return "", str(error)


def shared_broker(server: str) -> str:
    """host:port of the broker that the workers share; BrokerError says what to install."""
    with Client(server) as connection:
        address, failure = connection.recv()
    if failure:
        raise BrokerError(failure)
    return str(address)
