"""A broker that dies is told by /readyz within ten seconds, whatever the daemon was doing."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dugs_stream.daemon.steps import Step
from dugs_stream.errors import LogError
from dugs_stream.log.port import TopicNames
from tests.port.topics import fresh_topics
from tests.support.daemons.deployment import Deployment, on_topics
from tests.support.daemons.in_thread import has_role, running_in_thread
from tests.support.waiting import wait_until
from tools.broker import Broker

pytestmark = pytest.mark.broker

# What is promised to users, and a machine that does other things as well.
SECONDS = 10.0


def deployment_on(broker: Broker, folder: Path, names: TopicNames) -> Deployment:
    return Deployment(folder, **on_topics(broker.address, names))


@pytest.fixture
def broker(killable: Broker) -> Iterator[Broker]:
    """One that runs again afterwards, whatever happened."""
    yield killable
    with contextlib.suppress(ProcessLookupError):
        os.kill(killable.pid, signal.SIGCONT)
    killable.start_if_down()


@pytest.mark.parametrize(
    ("step", "end"),
    [(Step.POLL, "killed"), (Step.JUDGE, "killed"), (Step.PUBLISH, "killed"), (Step.COMMIT, "stopped")],
)
def test_readiness_tells_of_a_dead_broker(broker: Broker, tmp_path: Path, step: Step, end: str) -> None:
    """Idle or in the middle of a transaction, killed or silent: not ready within ten seconds."""
    deployment = deployment_on(broker, tmp_path, fresh_topics())
    died_at: list[float] = []

    def die() -> None:
        died_at.append(time.monotonic())
        if end == "killed":
            broker.kill()
        else:
            os.kill(broker.pid, signal.SIGSTOP)

    def die_at_the_step(at: object) -> None:
        """In the first transaction, which owes a trailer."""
        if at == step and not died_at and step is not Step.POLL:
            die()
            if (
                step is Step.JUDGE
            ):  # as a model that takes its time; the log is not asked for anything meanwhile
                with contextlib.suppress(TimeoutError):
                    wait_until(lambda: "log" in daemon.status.missing, 20, "readiness to tell")

    deployment.prepare()
    # A commit that never returns would end this process, as it does the daemon's: the block is over long before.
    with running_in_thread(deployment.settings, LogError, on_step=die_at_the_step) as daemon:
        if step is Step.POLL:
            wait_until(lambda: has_role(daemon, "owner"), 60, "the daemon to be ready")
            die()
        wait_until(lambda: bool(died_at), 60, "the step")
        wait_until(lambda: "log" in daemon.status.missing, 40, "readiness to tell")
        told_after = time.monotonic() - died_at[0]
        reason = daemon.status.missing["log"]
        if end == "killed":
            broker.start()
        else:
            os.kill(broker.pid, signal.SIGCONT)

    assert told_after < SECONDS
    assert reason.startswith("unreachable: ")
