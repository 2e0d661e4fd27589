"""Several daemons of one deployment, each a process with a state folder and a port of its own.

with running(deployment, "a") as a, running(deployment, "b") as b:
    a.wait_for("owner")
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from dugs_stream.commands.verify import verify
from dugs_stream.config import Settings, load_settings
from tests.support import http
from tests.support.daemons.deployment import Deployment
from tests.support.daemons.fork_server import start_forked
from tests.support.waiting import wait_until
from tools.ports import free_port

# A process imports PyTorch first, on a machine that does other things as well.
START_SECONDS = 90.0
# A look costs this process and the daemon two milliseconds each.
_LOOK_EVERY_SECONDS = 0.05


class Instance:
    """One daemon's process, and the same place again after a restart."""

    def __init__(self, deployment: Deployment, name: str, *overrides: str) -> None:
        self.deployment = deployment
        self.name = name
        self.port = free_port()
        self.overrides = [
            f"state.dir={deployment.folder / name / 'state'}",
            f"http.port={self.port}",
            *overrides,
        ]
        self._errors = deployment.folder / f"{name}.log"
        self._process: subprocess.Popen[str] | None = None

    @property
    def settings(self) -> Settings:
        """The settings that the process runs by."""
        return load_settings(self.deployment.config, self.overrides, environ={})

    @property
    def log(self) -> str:
        """Everything its processes said so far."""
        return self._errors.read_text()

    @property
    def process(self) -> subprocess.Popen[str]:
        """The running process."""
        assert self._process is not None, f"{self.name} was not started"
        return self._process

    def start(self, start_process: Callable[..., subprocess.Popen[str]] = start_forked) -> None:
        """Start it; returns at once."""
        words = [word for override in self.overrides for word in ("--set", override)]
        with self._errors.open("ab") as errors:
            self._process = start_process(
                "run", "-c", self.deployment.config, *words, stdout=subprocess.DEVNULL, stderr=errors
            )

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def terminate(self) -> None:
        """SIGTERM, which it must answer by ending with 0."""
        self.signal(signal.SIGTERM)
        assert self.process.wait(60) == 0, self.log

    def kill(self) -> None:
        """SIGKILL, also of a process that is stopped."""
        self.process.kill()
        self.process.wait()

    def answer(self, path: str, timeout: float = 2.0) -> httpx.Response | None:
        """What it says over HTTP; None where nobody answers."""
        try:
            return http.get(f"http://127.0.0.1:{self.port}{path}", timeout=timeout)
        except httpx.HTTPError:
            return None

    def status(self) -> dict[str, Any]:
        """/api/status; empty where nobody answers."""
        response = self.answer("/api/status")
        return {} if response is None else response.json()

    @property
    def is_ready(self) -> bool:
        """Whether /readyz says so."""
        response = self.answer("/readyz")
        return response is not None and response.status_code == 200

    def metric(self, name: str) -> float:
        """One sample of /metrics, zero where it is not there."""
        response = self.answer("/metrics")
        lines = [] if response is None else response.text.splitlines()
        return next((float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name + " ")), 0.0)

    def wait_for(self, role: str, seconds: float = START_SECONDS) -> None:
        """Until it is ready in this role."""

        def is_there() -> bool:
            assert self.process.poll() is None, f"{self.name} ended:\n{self.log}"
            status = self.status()
            return status.get("role") == role and bool(status.get("ready"))

        wait_until(is_there, seconds, f"{self.name} to be ready as {role}", _LOOK_EVERY_SECONDS)

    def wait_for_decided(self, records: int, seconds: float = START_SECONDS) -> None:
        """Until its memory knows of so many decided input records."""

        def is_there() -> bool:
            return sum(self.status().get("next_offsets", {}).values()) >= records

        expected = f"{self.name} to know of {records} decided records"
        wait_until(is_there, seconds, expected, _LOOK_EVERY_SECONDS)

    def check(self) -> None:
        """Hold its state folder against the changelog; it must have ended."""
        verification = verify(self.settings)
        assert verification.is_equal, f"{self.name}: {verification}"


@contextmanager
def running(
    deployment: Deployment,
    name: str,
    *overrides: str,
    start_process: Callable[..., subprocess.Popen[str]] = start_forked,
) -> Iterator[Instance]:
    """An instance that was started; what is left of it in the end is killed."""
    instance = Instance(deployment, name, *overrides)
    instance.start(start_process)
    try:
        yield instance
    finally:
        instance.kill()
