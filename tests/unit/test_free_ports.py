"""Ports for the servers of the tests: nobody else gets one between the choice and the start."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tools import ports


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A count of its own, for this process and those that it starts."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path


def test_no_port_is_given_twice_by_processes_beside_each_other() -> None:
    """Two workers of the suite ask at the same time, long before either listens."""
    code = "from tools.ports import free_port; print(*(free_port() for _ in range(20)))"
    workers = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(2)]
    given = [port for worker in workers for port in worker.communicate()[0].split()]

    assert len(set(given)) == 40


def test_kernel_never_picks_one_of_them() -> None:
    """An outgoing connection, or a listener on port 0, would otherwise take it before the server is up."""
    kernels_own = Path("/proc/sys/net/ipv4/ip_local_port_range")
    if not kernels_own.exists():
        pytest.skip("this system does not tell its range")
    first, last = map(int, kernels_own.read_text().split())
    assert not first <= ports.free_port() <= last


def test_port_with_a_listener_is_passed_over(temporary_folder: Path) -> None:
    """Another program of the machine may use ports of that range."""
    first, second = ports.free_port(), ports.free_port()
    last = next(temporary_folder.glob("dugs-ports-*/last"))
    last.write_text(str(first))
    with socket.socket() as other:
        other.bind(("127.0.0.1", second))
        assert ports.free_port() not in {first, second}


@pytest.mark.parametrize("text", ["", "a word", "80"])
def test_count_that_cannot_be_read_begins_again(temporary_folder: Path, text: str) -> None:
    """A full disk may leave an empty file."""
    ports.free_port()
    next(temporary_folder.glob("dugs-ports-*/last")).write_text(text)
    assert ports.free_port() >= ports._FIRST
