"""What does the service manager hear of this process: ready, alive, about to stop?

The sd_notify protocol (one datagram to the socket that NOTIFY_SOCKET names) in a few lines: of the libraries, the
pure one rests since 2017 and the kept ones compile against libsystemd. Without NOTIFY_SOCKET nothing is sent, and
nothing here ever raises or waits: a service manager that does not listen must not hold up a decision.

Only the deciding thread may call, between its steps. So a sign of life means that this very loop moves, which an
HTTP server that still answers would not show.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from time import monotonic

from dugs_stream.ops.status import LONGEST_SILENCE_SECONDS, Status

# A person reads the status line; the deciding thread pays one datagram for it.
_SECONDS_BETWEEN = 5.0
# Three messages may be lost before the service manager calls the process hung.
_SHARE_OF_WATCHDOG = 0.25
# systemd drops a datagram of more than 4096 bytes whole, READY=1 with it; a character may take four of them.
_LONGEST_STATUS = 900
# Not while a datagram to a stuck service manager would block.
_AT_ONCE = socket.MSG_DONTWAIT


class ServiceNotices:
    """Notices to systemd, or to whoever else set NOTIFY_SOCKET in `environ`. One thread."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = _address_in(environ.get("NOTIFY_SOCKET", ""))
        watchdog = _watchdog_seconds(environ)
        self._silence_seconds = watchdog or LONGEST_SILENCE_SECONDS
        self._seconds_between = min(_SECONDS_BETWEEN, _SHARE_OF_WATCHDOG * self._silence_seconds)
        self._has_said_ready = False
        self._last_sent_at = float("-inf")

    def alive(self, status: Status) -> None:
        """A sign of life, for /livez too; READY=1 with the first one at which nothing is missing. Cheap."""
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
            # The watchdog sleeps until READY=1. A recovery takes as long as it takes, but not in silence.
            lines.append(f"EXTEND_TIMEOUT_USEC={int(self._silence_seconds * 1e6)}")
        if self._send(*lines):
            self._last_sent_at = monotonic()
            self._has_said_ready |= is_news

    def stopping(self, why: str) -> None:
        """The life is over and is being tidied up."""
        self._send("STOPPING=1", f"STATUS={_on_one_line(why)}")

    def _send(self, *lines: str) -> bool:
        """Whether the service manager has the datagram."""
        if self._address is None:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.sendto("\n".join(lines).encode(), _AT_ONCE, self._address)
        except OSError:
            return False
        return True


def _address_in(name: str) -> str | None:
    """A path, or with "@" a name in Linux's abstract space; anything else (vsock:…) is none of ours."""
    if name.startswith("@"):
        return "\0" + name[1:]
    return name if name.startswith("/") else None


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    """What systemd expects of this very process; a child inherits the variables and is not meant."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if microseconds.isdecimal() and int(microseconds) else None


def _line_of(status: Status) -> str:
    facts = status.as_facts()
    said = [str(facts["role"])]
    if "uniques" in facts:
        said.append(f"{facts['uniques']} uniques")
    if "lag" in facts:
        said.append(f"lag {facts['lag']} records")
    said += [f"{name}: {why}" for name, why in facts["missing"].items()]
    return _on_one_line(" · ".join(said))


def _on_one_line(text: str) -> str:
    """A line break would begin the next assignment: whatever an error's text holds, it stays text."""
    return " ".join(text.split())[:_LONGEST_STATUS]
