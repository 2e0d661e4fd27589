"""`dugs run` as a process: signals, ports, readiness, and a log that is not there."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.daemons.deployment import Deployment, npy_messages
from tests.support.waiting import wait_until

_START_SECONDS = 60.0


@pytest.fixture
def port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free: int = probe.getsockname()[1]
        return free


@pytest.fixture
def deployment(tmp_path: Path, port: int) -> Deployment:
    """A deployment whose HTTP port the test knows."""
    return Deployment(tmp_path, http={"port": port})


@contextmanager
def running(deployment: Deployment, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`dugs run` until the block ends; whatever is left of it is killed."""
    process = deployment.start("run", *arguments)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def answer(port: int, path: str) -> httpx.Response | None:
    """The answer of the daemon's HTTP server, None while there is none."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}{path}", trust_env=False, timeout=5)
    except httpx.HTTPError:
        return None


def is_ready(port: int) -> bool:
    """Whether /readyz says so."""
    response = answer(port, "/readyz")
    return response is not None and response.status_code == 200


def metric(port: int, name: str) -> float:
    """One sample of /metrics, zero where it is not there."""
    response = answer(port, "/metrics")
    lines = [] if response is None else response.text.splitlines()
    return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name + " ")), 0.0)


def test_sigterm_ends_a_running_daemon_with_zero(deployment: Deployment, port: int) -> None:
    """Everything decided is committed and in the state folder; the next run has nothing to repair."""
    deployment.send(npy_messages(50))
    with running(deployment) as process:
        wait_until(lambda: metric(port, 'dugs_records_total{verdict="unique"}') > 0, _START_SECONDS)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)

    assert process.returncode == 0, errors
    assert "daemon.stopped" in errors
    deployment.run_drained()
    deployment.check()


def test_files_of_a_daemon_are_for_its_user_alone(deployment: Deployment, port: int) -> None:
    """Vectors, events, pictures, the log: each holds records or tells of them. Folders 0700, files 0600."""
    before = set(deployment.folder.rglob("*"))
    deployment.send(npy_messages(20))
    deployment.run_drained()

    made = set(deployment.folder.rglob("*")) - before
    modes = {str(path.relative_to(deployment.folder)): path.stat().st_mode & 0o777 for path in made}
    assert "state/lock" in modes
    assert not {name: oct(mode) for name, mode in modes.items() if mode & 0o077}


def test_sigterm_during_the_start_ends_with_zero(deployment: Deployment, port: int) -> None:
    """An orchestrator that changes its mind is obeyed as soon as the model is loaded."""
    deployment.prepare()
    with running(deployment) as process:
        wait_until(lambda: answer(port, "/livez") is not None, _START_SECONDS)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)

    assert process.returncode == 0, errors


def test_second_sigterm_leaves_at_once_and_loses_nothing(tmp_path: Path, port: int) -> None:
    """In the middle of a long micro-batch; the records of it are decided by the next run."""
    deployment = Deployment(
        tmp_path,
        http={"port": port},
        model={"factory": "tests.support.models.small:slow", "kwargs": {"seconds": 0.5}},
        input={"codec": "npy", "batch": {"records": 256, "wait_ms": 50}},
    )
    deployment.send(npy_messages(200))
    with running(deployment) as process:
        wait_until(
            lambda: metric(port, 'dugs_stage_duration_seconds_count{stage="decode"}') > 0, _START_SECONDS
        )
        # Two pending signals of one kind are one: send until it is gone, far sooner than its batch would end.
        wait_until(lambda: process.send_signal(signal.SIGTERM) or process.poll() is not None, 5)

    assert process.returncode == 1
    assert deployment.events() == []


def test_daemon_shows_itself_over_http(deployment: Deployment, port: int) -> None:
    """Ready, owner, counted, and the uniques as events."""
    deployment.send(npy_messages(30))
    with running(deployment):
        wait_until(lambda: is_ready(port), _START_SECONDS)
        wait_until(lambda: metric(port, "dugs_batch_records_count") >= 2, _START_SECONDS)
        wait_until(lambda: '"lag":0' in str(getattr(answer(port, "/api/status"), "text", "")), 10)
        status = answer(port, "/api/status")
        page = answer(port, "/api/uniques?limit=5")

        assert status is not None
        assert page is not None
        assert (status.json()["role"], status.json()["lag"]) == ("owner", 0)
        assert page.json()["items"] == deployment.events("unique")[:5]
        assert metric(port, 'dugs_role{role="owner"}') == 1


def test_second_daemon_on_one_port_is_refused(deployment: Deployment, port: int) -> None:
    """Exit 2 and a line that names the port."""
    deployment.prepare()
    with running(deployment):
        wait_until(lambda: answer(port, "/livez") is not None, _START_SECONDS)
        second = deployment.start("run")
        _, errors = second.communicate(timeout=60)

    assert second.returncode == 2
    assert f"127.0.0.1:{port}" in errors


def test_absent_broker_is_waited_for_and_named_once(deployment: Deployment, port: int) -> None:
    """Not ready, alive, one line and not a flood; SIGTERM ends the wait with 0."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        deployment.write(log={"engine": "kafka", "kafka": {"bootstrap_servers": [address]}})
        with running(deployment) as process:
            wait_until(
                lambda: address in str((answer(port, "/readyz") or httpx.Response(503)).text), _START_SECONDS
            )
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=60)

    assert process.returncode == 0, errors
    assert errors.count("log.unavailable") == 1
    assert len(errors.splitlines()) < 15, errors
