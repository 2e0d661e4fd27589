"""What systemd is to a service, as far as notices go: a datagram socket, and an environment that names it.

with listening(tmp_path / "notify") as manager:
    start(..., env=os.environ | manager.environ)
    manager.wait_for("READY", "1", 30)
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

Notice = dict[str, str]
"""One datagram: its assignments by name."""

# systemd's own buffer: a longer datagram is thrown away.
_LARGEST_DATAGRAM = 4096


class ServiceManager:
    """The receiving end. `heard` holds every notice so far, in order."""

    def __init__(self, receiver: socket.socket, name: str) -> None:
        self._receiver = receiver
        self.environ = {"NOTIFY_SOCKET": name}
        self.heard: list[Notice] = []

    def next(self, seconds: float) -> Notice:
        """The next notice; TimeoutError where none comes in time."""
        self._receiver.settimeout(max(seconds, 0.001))
        datagram = self._receiver.recv(65536)
        assert len(datagram) <= _LARGEST_DATAGRAM, f"systemd drops a datagram of {len(datagram)} bytes"
        notice = dict(line.split("=", 1) for line in datagram.decode().splitlines())
        self.heard.append(notice)
        return notice

    def wait_for(self, name: str, value: str, seconds: float) -> Notice:
        """The first notice from now on in which `name` is assigned something that holds `value`."""
        ends_at = monotonic() + seconds
        while True:
            try:
                notice = self.next(ends_at - monotonic())
            except TimeoutError:
                raise TimeoutError(f"no {name}={value} in {seconds} s; heard {self.heard[-5:]}") from None
            if value in notice.get(name, ""):
                return notice

    def drop_waiting(self) -> None:
        """Forget what came until now."""
        self._receiver.setblocking(False)
        while True:
            try:
                self._receiver.recv(65536)
            except BlockingIOError:
                return


@contextmanager
def listening(name: Path | str) -> Iterator[ServiceManager]:
    """Listen at a path, or at "@name" in the abstract space."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(name).replace("@", "\0", 1) if str(name).startswith("@") else str(name))
        yield ServiceManager(receiver, str(name))
