"""Notices to a service manager, over real datagram sockets."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from dugs_stream.ops.metrics import Role
from dugs_stream.ops.status import Status
from dugs_stream.ops.systemd import ServiceNotices
from tests.support.daemons.service_manager import ServiceManager, listening


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[ServiceManager]:
    """A service manager at a path."""
    with listening(tmp_path / "notify") as manager:
        yield manager


@pytest.fixture
def status() -> Status:
    """A status of which nothing is missing."""
    status = Status({"uniques": 12, "lag": 340})
    status.has("log")
    status.has("state")
    return status


def test_first_step_with_nothing_missing_says_ready_once(manager: ServiceManager, status: Status) -> None:
    """READY=1 comes once, also after something went missing again."""
    notices = ServiceNotices({**manager.environ, "WATCHDOG_USEC": "4000"})
    notices.alive(status)
    status.lacks("log", "gone")
    status.has("log")

    assert manager.next(1)["READY"] == "1"
    for _ in range(2):
        again = next(notice for notice in _asked_until_heard(notices, status, manager))
        assert "READY" not in again
        assert again["WATCHDOG"] == "1"


def _asked_until_heard(
    notices: ServiceNotices, status: Status, manager: ServiceManager
) -> Iterator[dict[str, str]]:
    """Notices of repeated steps, as the loop makes them."""
    for _ in range(100_000):
        notices.alive(status)
        try:
            yield manager.next(0.001)
        except TimeoutError:
            continue


def test_status_line_names_role_uniques_lag_and_what_is_missing(
    manager: ServiceManager, status: Status
) -> None:
    """`systemctl status` shows in one line the role and what the process waits for."""
    status.role_changed(Role.OWNER)
    status.lacks("log", "broker:9092 does not answer")
    ServiceNotices(manager.environ).alive(status)

    line = manager.next(1)["STATUS"]
    assert line == "owner · 12 uniques · lag 340 records · log: broker:9092 does not answer"


def test_start_that_is_not_over_asks_for_the_watchdogs_time_and_not_more(manager: ServiceManager) -> None:
    """Until READY=1 every step extends the start by as long as the next one may take."""
    ServiceNotices({**manager.environ, "WATCHDOG_USEC": "90000000"}).alive(Status())

    notice = manager.next(1)
    assert notice["EXTEND_TIMEOUT_USEC"] == "90000000"
    assert "READY" not in notice


def test_steps_are_reported_at_a_limited_rate(manager: ServiceManager, status: Status) -> None:
    """A loop of a thousand steps a second sends a datagram every few seconds."""
    notices = ServiceNotices(manager.environ)
    for _ in range(1000):
        notices.alive(status)

    assert manager.next(1)["READY"] == "1"
    with pytest.raises(TimeoutError):
        manager.next(0.05)


def test_line_breaks_in_an_error_do_not_assign(manager: ServiceManager) -> None:
    """The text of an error cannot say READY=1, nor push the datagram over what systemd takes."""
    status = Status()
    status.lacks("log", "no answer\nREADY=1\n" + "ü" * 10_000)
    ServiceNotices(manager.environ).alive(status)

    assert "READY" not in manager.next(1)


def test_watchdog_of_another_process_is_not_ours(manager: ServiceManager) -> None:
    """The variables are inherited by children; WATCHDOG_PID says whom they mean."""
    environ = {**manager.environ, "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid() + 1)}
    ServiceNotices(environ).alive(Status())

    assert manager.next(1)["EXTEND_TIMEOUT_USEC"] != "1000000"


def test_abstract_socket_is_reached(status: Status) -> None:
    """A name with @ is in Linux's abstract namespace."""
    with listening(f"@dugs-{uuid4()}") as manager:
        ServiceNotices(manager.environ).alive(status)

        assert manager.next(1)["READY"] == "1"


def test_ready_that_was_not_heard_is_said_again(tmp_path: Path, status: Status) -> None:
    """A service manager that was away for a moment still learns of it."""
    notices = ServiceNotices({"NOTIFY_SOCKET": str(tmp_path / "notify")})
    notices.alive(status)
    with listening(tmp_path / "notify") as manager:
        notices.alive(status)

        assert manager.next(1)["READY"] == "1"


def test_service_manager_that_does_not_read_blocks_nothing(tmp_path: Path, status: Status) -> None:
    """A full queue loses notices; the deciding thread continues."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(str(tmp_path / "notify"))
        notices = ServiceNotices({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        for _ in range(10_000):
            notices.stopping("again")


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}])
def test_without_a_socket_of_ours_nothing_happens(environ: dict[str, str], status: Status) -> None:
    """In a terminal, in a container, in a test: no notice and no error."""
    notices = ServiceNotices({**environ, "WATCHDOG_USEC": "nonsense"})
    notices.alive(status)
    notices.stopping("done")
