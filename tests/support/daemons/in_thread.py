"""A daemon in a thread of the test's own process, so that a test can look inside while it lives."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dugs_stream.app.daemon import open_daemon
from dugs_stream.config import Settings
from dugs_stream.daemon.daemon import Daemon
from dugs_stream.daemon.signals import Stopping
from tests.support.daemons.deployment import one_thread

# A micro-batch of any model in these tests, and its commit.
_END_SECONDS = 60.0


@contextmanager
def running_in_thread(
    settings: Settings, expected: type[Exception] | None = None, **keywords: Any
) -> Iterator[Daemon]:
    """A daemon that lives until the block ends; what ended it earlier is raised then, unless it is `expected`."""
    stopping = Stopping()
    failures: list[BaseException] = []
    with one_thread(), open_daemon(settings, stopping=stopping, **keywords) as daemon:

        def live() -> None:
            try:
                daemon.run()
            except BaseException as error:  # noqa: BLE001 (raised in the test's own thread)
                failures.append(error)

        thread = threading.Thread(target=live, name="daemon", daemon=True)
        thread.start()
        try:
            yield daemon
        finally:
            stopping.request()
            thread.join(_END_SECONDS)
            assert not thread.is_alive(), "the daemon did not stop"
        if failures and not (expected and isinstance(failures[0], expected)):
            raise failures[0]


def has_role(daemon: Daemon, role: str) -> bool:
    """Whether it is ready in this role."""
    facts = daemon.status.as_facts()
    return bool(facts["role"] == role and facts["ready"])


def metric_of(daemon: Daemon, name: str, **labels: str) -> float:
    """One of its metrics, zero where there is none yet."""
    return daemon.metrics.registry.get_sample_value(name, labels) or 0.0
