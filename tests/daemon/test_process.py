"""`dugs run` as a process: signals, ports, readiness, and a log that is not there."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest

from tests.support.daemons.deployment import Deployment, npy_messages
from tests.support.daemons.fork_server import start_interpreter
from tests.support.daemons.instances import START_SECONDS, Instance, running
from tests.support.waiting import wait_until


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return Deployment(tmp_path)


def test_sigterm_ends_a_running_daemon_with_zero(deployment: Deployment) -> None:
    """Everything decided is committed and in the state folder; the next run has nothing to repair."""
    deployment.send(npy_messages(50))
    with running(deployment, "a", start_process=start_interpreter) as daemon:
        wait_until(lambda: daemon.metric('dugs_records_total{verdict="unique"}') > 0, START_SECONDS)
        daemon.terminate()

    assert "daemon.stopped" in daemon.log
    deployment.run_drained()
    deployment.check()


def test_files_of_a_daemon_are_for_its_user_alone(deployment: Deployment) -> None:
    """Vectors, events, pictures, the log: each holds records or tells of them. Folders 0700, files 0600."""
    before = set(deployment.folder.rglob("*"))
    deployment.send(npy_messages(20))
    deployment.run_drained()

    made = set(deployment.folder.rglob("*")) - before
    modes = {str(path.relative_to(deployment.folder)): path.stat().st_mode & 0o777 for path in made}
    assert "state/lock" in modes
    assert not {name: oct(mode) for name, mode in modes.items() if mode & 0o077}


def test_sigterm_during_the_start_ends_with_zero(deployment: Deployment) -> None:
    """An orchestrator that changes its mind is obeyed as soon as the model is loaded."""
    deployment.prepare()
    with running(deployment, "a", start_process=start_interpreter) as daemon:
        wait_until(lambda: daemon.answer("/livez") is not None, START_SECONDS)
        daemon.terminate()


def test_second_sigterm_leaves_at_once_and_loses_nothing(tmp_path: Path) -> None:
    """In the middle of a long micro-batch; the records of it are decided by the next run."""
    deployment = Deployment(
        tmp_path,
        model={"factory": "tests.support.models.small:slow", "kwargs": {"seconds": 0.5}},
        input={"codec": "npy", "batch": {"records": 256, "wait_ms": 50}},
    )
    deployment.send(npy_messages(200))
    with running(deployment, "a") as daemon:
        decoded = 'dugs_stage_duration_seconds_count{stage="decode"}'
        wait_until(lambda: daemon.metric(decoded) > 0, START_SECONDS)
        # Two pending signals of one kind are one: send until it is gone, far sooner than its batch would end.
        wait_until(lambda: daemon.signal(signal.SIGTERM) or daemon.process.poll() is not None, 5)

        assert daemon.process.returncode == 1
    assert deployment.events() == []


def test_daemon_shows_itself_over_http(deployment: Deployment) -> None:
    """Ready, owner, counted, and the uniques as events."""
    deployment.send(npy_messages(30))
    with running(deployment, "a") as daemon:
        daemon.wait_for("owner")
        wait_until(lambda: daemon.metric("dugs_batch_records_count") >= 2, START_SECONDS)
        wait_until(lambda: daemon.status().get("lag") == 0, START_SECONDS, "no lag")
        page = daemon.answer("/api/uniques?limit=5")

        assert daemon.is_ready
        assert page is not None
        assert page.json()["items"] == deployment.events("unique")[:5]
        assert daemon.metric('dugs_role{role="owner"}') == 1


def test_second_daemon_on_one_port_is_refused(deployment: Deployment) -> None:
    """Exit 2 and a line that names the port."""
    deployment.prepare()
    with running(deployment, "a") as first:
        wait_until(lambda: first.answer("/livez") is not None, START_SECONDS)
        with running(deployment, "b", f"http.port={first.port}") as second:
            assert second.process.wait(START_SECONDS) == 2

    assert f"127.0.0.1:{first.port}" in second.log


def test_absent_broker_is_waited_for_and_named_once(deployment: Deployment) -> None:
    """Not ready, alive, one line and not a flood; SIGTERM ends the wait with 0."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        deployment.write(log={"engine": "kafka", "kafka": {"bootstrap_servers": [address]}})
        with running(deployment, "a") as daemon:
            wait_until(lambda: address in readiness(daemon), START_SECONDS)
            daemon.terminate()

    assert daemon.log.count("log.unavailable") == 1
    assert len(daemon.log.splitlines()) < 15, daemon.log


def readiness(daemon: Instance) -> str:
    """What /readyz says, also where it is not ready."""
    response = daemon.answer("/readyz")
    return "" if response is None else response.text
