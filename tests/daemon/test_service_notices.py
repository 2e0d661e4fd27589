"""A real daemon and the service manager it reports to: ready, alive, hung, stopping."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from dugs_stream.daemon.steps import Step
from tests.support import http
from tests.support.daemons.deployment import Deployment, npy_messages
from tests.support.daemons.in_thread import running_in_thread
from tests.support.daemons.instances import START_SECONDS, running
from tests.support.daemons.service_manager import ServiceManager, listening
from tests.support.models.small import Gated
from tests.support.waiting import wait_until
from tools.ports import free_port


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServiceManager]:
    """A service manager that the processes of this test report to, with a watchdog of 0.8 s."""
    with listening(tmp_path / "notify") as manager:
        monkeypatch.setenv("NOTIFY_SOCKET", manager.environ["NOTIFY_SOCKET"])
        monkeypatch.setenv("WATCHDOG_USEC", "800000")
        yield manager


def test_process_says_ready_as_owner_then_lives_then_stops(tmp_path: Path, manager: ServiceManager) -> None:
    """READY=1 once /readyz is ready, signs of life while it idles, STOPPING=1 behind SIGTERM."""
    deployment = Deployment(tmp_path)
    deployment.send(npy_messages(20))
    with running(deployment, "a") as owner:
        manager.wait_for("READY", "1", START_SECONDS)
        assert owner.is_ready
        manager.wait_for("STATUS", "lag 0 records", 10)
        manager.wait_for("WATCHDOG", "1", 2)
        owner.signal(signal.SIGTERM)
        manager.wait_for("STOPPING", "1", 10)
        assert owner.process.wait(30) == 0, owner.log

    assert sum("READY" in notice for notice in manager.heard) == 1


def test_standby_is_ready_and_lives_while_it_waits(
    tmp_path: Path, manager: ServiceManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waiting is what a standby is for: systemd must neither wait for more nor call it hung."""
    deployment = Deployment(tmp_path)
    deployment.send(npy_messages(20))
    monkeypatch.delenv("NOTIFY_SOCKET")
    with running_in_thread(deployment.settings):
        monkeypatch.setenv("NOTIFY_SOCKET", manager.environ["NOTIFY_SOCKET"])
        with running(deployment, "b"):
            ready = manager.wait_for("READY", "1", START_SECONDS)
            lives = manager.wait_for("WATCHDOG", "1", 5)

    assert ready["STATUS"].startswith("standby")
    assert lives["STATUS"].startswith("standby")


def test_start_without_a_broker_is_extended_and_not_ready(tmp_path: Path, manager: ServiceManager) -> None:
    """A broker that is away longer than any start timeout is waited for, and the status line names it."""
    address = f"127.0.0.1:{free_port()}"
    deployment = Deployment(tmp_path)
    deployment.write(log={"engine": "kafka", "kafka": {"bootstrap_servers": [address]}})
    with running(deployment, "a"):
        for _ in range(2):
            notice = manager.wait_for("EXTEND_TIMEOUT_USEC", "800000", START_SECONDS)

    assert address in notice["STATUS"]
    assert not any("READY" in notice for notice in manager.heard)


def test_loop_that_hangs_falls_silent_and_livez_says_so_until_it_moves(
    tmp_path: Path, manager: ServiceManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread of its own would report a hung loop as alive, to systemd and to a cluster's probe; the loop cannot."""
    monkeypatch.setattr("dugs_stream.ops.status.LONGEST_SILENCE_SECONDS", 0.9)
    deployment = Deployment(tmp_path, model={"factory": "tests.support.models.small:gated"})
    deployment.write(http={"port": free_port()})
    deployment.send(npy_messages(20))
    Gated.is_open.set()
    with running_in_thread(deployment.settings):
        manager.wait_for("STATUS", "lag 0 records", START_SECONDS)
        Gated.is_waiting.clear()
        Gated.is_open.clear()
        try:
            deployment.send(npy_messages(1, seed=1))
            wait_until(Gated.is_waiting.is_set, 10)
            manager.drop_waiting()
            with pytest.raises(TimeoutError):
                manager.next(1.0)
            url = f"http://127.0.0.1:{deployment.settings.http.port}/livez"
            assert http.get(url).status_code == 503
        finally:
            Gated.is_open.set()
        manager.wait_for("WATCHDOG", "1", 5)
        wait_until(lambda: http.get(url).status_code == 200, 5)


def test_long_micro_batch_shows_life_between_its_tiles(tmp_path: Path, manager: ServiceManager) -> None:
    """A batch that takes several times the watchdog is no hang as long as its tiles end."""
    deployment = Deployment(
        tmp_path,
        input={"codec": "npy", "batch": {"records": 64, "wait_ms": 50}},
        model={"factory": "tests.support.models.small:slow", "kwargs": {"seconds": 0.25}},
    )
    deployment.send(npy_messages(48))
    steps: list[Step] = []
    heard_in: Counter[int] = Counter()
    with running_in_thread(deployment.settings, on_step=steps.append) as daemon:
        while sum(daemon.next_offsets.values()) < 48:
            manager.next(START_SECONDS)
            heard_in[len(steps)] += 1

    while_judging = [count for number, count in heard_in.items() if steps[number - 1] is Step.JUDGE]
    assert max(while_judging) >= 3
