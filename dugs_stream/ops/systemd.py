"""systemd notifications (sd_notify): ready, watchdog, status, stopping.

The protocol is one datagram to the socket named by NOTIFY_SOCKET; the pure Python library for it is unmaintained
since 2017, the others compile against libsystemd. Without NOTIFY_SOCKET nothing is sent. Nothing here raises or
blocks: a service manager that does not listen must not delay a decision.

Only the deciding thread may call, between its steps: a watchdog message then proves that the loop itself moves,
which an HTTP server that still answers would not.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from time import monotonic

from dugs_stream.ops.status import LONGEST_SILENCE_SECONDS, Status

# Often enough for a status line that people read; costs the deciding thread one datagram.
_SECONDS_BETWEEN = 5.0
# Three messages may be lost before the service manager calls the process hung.
_SHARE_OF_WATCHDOG = 0.25
# systemd drops a datagram of more than 4096 bytes as a whole; a character may take four bytes.
_LONGEST_STATUS = 900
# A stuck service manager must not block the send.
_AT_ONCE = socket.MSG_DONTWAIT


class ServiceNotices:
    """Notices to the service manager whose NOTIFY_SOCKET is in `environ`. Not thread-safe."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = _address_in(environ.get("NOTIFY_SOCKET", ""))
        watchdog = _watchdog_seconds(environ)
        self._silence_seconds = watchdog or LONGEST_SILENCE_SECONDS
        self._seconds_between = min(_SECONDS_BETWEEN, _SHARE_OF_WATCHDOG * self._silence_seconds)
        self._has_said_ready = False
        self._last_sent_at = float("-inf")

    def alive(self, status: Status) -> None:
        """Report a step of the loop, to /livez too; adds READY=1 once, as soon as nothing is missing. Cheap."""
        status.stirred()
        if self._address is None:
            return
        is_news = not self._has_said_ready and not status.missing
        if not is_news and monotonic() - self._last_sent_at < self._seconds_between:
            return
        lines = [f"STATUS={_line_of(status)}", "WATCHDOG=1"]
        if is_news:
            lines.insert(0, "READY=1")
        elif not self._has_said_ready:
            # Before READY=1 there is no watchdog; a long recovery must extend the start timeout instead.
            lines.append(f"EXTEND_TIMEOUT_USEC={int(self._silence_seconds * 1e6)}")
        if self._send(*lines):
            self._last_sent_at = monotonic()
            self._has_said_ready |= is_news

    def stopping(self, why: str) -> None:
        """The daemon is shutting down."""
        self._send("STOPPING=1", f"STATUS={_on_one_line(why)}")

    def _send(self, *lines: str) -> bool:
        """Whether the datagram was sent."""
        if self._address is None:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.sendto("\n".join(lines).encode(), _AT_ONCE, self._address)
        except OSError:
            return False
        return True


def _address_in(name: str) -> str | None:
    """A path, or with "@" a name in Linux's abstract namespace; anything else (vsock:…) is not supported."""
    if name.startswith("@"):
        return "\0" + name[1:]
    return name if name.startswith("/") else None


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    """The watchdog interval that systemd set for this process; a child only inherits the variables."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if microseconds.isdecimal() and int(microseconds) else None


def _line_of(status: Status) -> str:
    facts = status.as_facts()
    parts = [str(facts["role"])]
    if "uniques" in facts:
        parts.append(f"{facts['uniques']} uniques")
    if "lag" in facts:
        parts.append(f"lag {facts['lag']} records")
    parts += [f"{name}: {why}" for name, why in facts["missing"].items()]
    return _on_one_line(" · ".join(parts))


def _on_one_line(text: str) -> str:
    """Line breaks removed: in the protocol one would begin the next assignment."""
    return " ".join(text.split())[:_LONGEST_STATUS]
