"""Two instances of one deployment: one owns, one stands by with a warm index, and nobody's end costs a record.

The times that are promised are printed; the assertions leave room for a machine that does other things as well.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from dugs_stream.app.logs import open_log
from dugs_stream.daemon.daemon import Daemon
from dugs_stream.log.kafka import engine as kafka_engine
from dugs_stream.log.kafka.deadlines import Deadlines
from dugs_stream.log.port import Log
from tests.support.daemons.deployment import Deployment, npy_messages
from tests.support.daemons.in_thread import has_role, metric_of, running_in_thread
from tests.support.daemons.instances import Instance, running
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(0)]

MakeDeployment = Callable[..., Deployment]

# What faults/conftest.py configures, and what is promised beyond it.
SESSION_SECONDS = 3.0
PROMISED_SECONDS = 2.0
BUSY_MACHINE_SECONDS = 10.0
SLOW = {"model": {"factory": "tests.support.models.small:slow", "kwargs": {"seconds": 0.2}}}


kafka_only = pytest.mark.parametrize(
    "make_deployment", [pytest.param("kafka", marks=pytest.mark.broker)], indirect=True
)


@contextmanager
def owner_and_standby(deployment: Deployment) -> Iterator[tuple[Instance, Instance]]:
    """Two instances, the first of which owns the input, both ready."""
    deployment.prepare()
    with running(deployment, "first") as first:
        first.wait_for("owner")
        with running(deployment, "second") as second:
            second.wait_for("standby")
            first.wait_for("owner")
            yield first, second


def test_standby_is_ready_and_knows_what_the_owner_commits(make_deployment: MakeDeployment) -> None:
    """Its index follows, its role is shown, and it takes nothing away."""
    deployment = make_deployment()
    with owner_and_standby(deployment) as (owner, standby):
        deployment.send(npy_messages(60))
        owner.wait_for_decided(60)
        standby.wait_for_decided(60)

        assert standby.is_ready
        assert standby.metric('dugs_role{role="standby"}') == 1
        # The standby may have been ready before the group let it in, which costs the owner a moment's role.
        wait_until(lambda: owner.metric('dugs_role{role="owner"}') == 1, 30, "the owner to show its role")
        for fact in ("uniques", "checksum", "next_offsets"):
            assert standby.status()[fact] == owner.status()[fact]
        assert standby.metric('dugs_commits_total{outcome="committed"}') == 0
        for each in (owner, standby):
            each.terminate()
            each.check()
    deployment.check()


@kafka_only
@pytest.mark.parametrize("model", [{}, SLOW], ids=["idle", "busy"])
def test_zombie_writes_nothing_fences_nobody_and_comes_back_as_standby(
    make_deployment: MakeDeployment, model: dict[str, Any]
) -> None:
    """Stopped for longer than its session, replaced, and woken up again; idle, and in the middle of a batch."""
    deployment = make_deployment(**model)
    with owner_and_standby(deployment) as (zombie, successor):
        deployment.send(npy_messages(80))
        zombie.wait_for_decided(32 if model else 80)
        zombie.signal(signal.SIGSTOP)
        successor.wait_for("owner", SESSION_SECONDS + PROMISED_SECONDS + BUSY_MACHINE_SECONDS)
        deployment.send(npy_messages(40, seed=1))
        successor.wait_for_decided(120)
        recovered = successor.metric('dugs_recoveries_total{reason="ownership_lost"}')

        zombie.signal(signal.SIGCONT)
        zombie.wait_for("standby", 30)
        zombie.wait_for_decided(120)
        # The zombie's coming back moved the group on; that, and nothing worse, is all the successor has noticed.
        successor.wait_for("owner", 30)
        deployment.send(npy_messages(40, seed=2))
        successor.wait_for_decided(160)

        assert successor.metric('dugs_commits_total{outcome="aborted"}') == 0
        assert successor.metric('dugs_recoveries_total{reason="ownership_lost"}') <= recovered + 2
        successor.wait_for("owner", 30)
        for each in (zombie, successor):
            each.terminate()
            each.check()
    deployment.check()


@kafka_only
def test_instances_started_at_once_agree_on_one_owner(make_deployment: MakeDeployment) -> None:
    """Neither waits for the other for ever, and both are ready in the end."""
    deployment = make_deployment()
    deployment.send(npy_messages(60))
    with running(deployment, "first") as first, running(deployment, "second") as second:
        wait_until(
            lambda: (
                {first.status().get("role"), second.status().get("role")} == {"owner", "standby"}
                and first.is_ready
                and second.is_ready
            ),
            90,
            "one owner and one standby",
        )
        first.wait_for_decided(60)
        second.wait_for_decided(60)
        for each in (first, second):
            each.terminate()
            each.check()
    deployment.check()


@contextmanager
def another_member(deployment: Deployment) -> Iterator[Log]:
    """A member of the group that waits in acquire, as a standby does, and leaves in the end."""
    log = open_log(deployment.settings)
    log.prepare()
    leave = threading.Event()
    thread = threading.Thread(target=log.acquire, args=(leave.is_set,), daemon=True)
    thread.start()
    try:
        yield log
    finally:
        leave.set()
        thread.join(20)
        log.close()


@kafka_only
def test_quick_rebalances_reload_nothing_and_lose_nothing(make_deployment: MakeDeployment) -> None:
    """Memory stays at its trailer: the same index, no snapshot read again, ready all the time."""
    deployment = make_deployment()
    deployment.send(npy_messages(40))
    with running_in_thread(deployment.settings) as daemon:
        wait_until(lambda: has_role(daemon, "owner") and sum(daemon.next_offsets.values()) == 40, 60)
        index = daemon.replica.index
        opened: list[None] = []
        open_state = daemon.state.open
        daemon.state.open = lambda: opened.append(None) or open_state()  # type: ignore[method-assign, func-returns-value, return-value]
        unready: list[dict[str, str]] = []
        for number in range(3):
            recoveries = recovered(daemon)
            with another_member(deployment):
                deployment.send(npy_messages(10, seed=number + 1))
                began = time.monotonic()
                while recovered(daemon) == recoveries or not has_role(daemon, "owner"):
                    assert time.monotonic() - began < 30, "the owner did not come back from the rebalance"
                    unready += filter(None, [daemon.status.missing])
                    time.sleep(0.005)
        wait_until(lambda: sum(daemon.next_offsets.values()) == 70, 60, "all records decided")

        assert daemon.replica.index is index
        assert opened == []
        assert unready == []
        assert metric_of(daemon, "dugs_commits_total", outcome="aborted") == 0
    deployment.check()


def recovered(daemon: Daemon) -> float:
    """How often ownership was renewed."""
    return metric_of(daemon, "dugs_recoveries_total", reason="ownership_lost")


@kafka_only
def test_batch_that_outlives_its_membership_is_given_up_and_decided_in_smaller_ones(
    make_deployment: MakeDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two seconds without a poll lose the input; 120 records that take five are taken fewer at a time."""
    monkeypatch.setattr(kafka_engine, "DEADLINES", Deadlines(poll_interval_seconds=2.0))
    deployment = make_deployment(
        model={"factory": "tests.support.models.small:slow", "kwargs": {"seconds": 0.3}},
        input={"codec": "npy", "batch": {"records": 256, "wait_ms": 50}},
    )
    deployment.send(npy_messages(120))
    with running_in_thread(deployment.settings) as daemon:
        daemon.loop.pacing._in_time = lambda: 256  # type: ignore[method-assign]  # as if nothing had been measured
        wait_until(lambda: sum(daemon.next_offsets.values()) == 120, 120, "all records decided")
        assert recovered(daemon) >= 1
        assert metric_of(daemon, "dugs_batch_limit_records") < 120
    deployment.check()
