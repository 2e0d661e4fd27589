"""Live status of the daemon, written by its deciding thread and read by the HTTP server's.

Readiness is a list of what is missing, by name with the reason: ready means an empty list.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any

from dugs_stream.ops.metrics import Role

# The deciding loop counts as hung after this long without a step. It equals WatchdogSec of
# deploy/systemd/dugs-stream.service, which gives the reason for the number.
LONGEST_SILENCE_SECONDS = 360.0


# An answer of a healthy log takes milliseconds. Readiness tells of a dead one within ten seconds, half of them for the
# prober; each request's own deadline is far later, since giving up a transaction costs a recovery.
LONGEST_ANSWER_SECONDS = 5.0


class Status:
    """Role, what is missing, and the facts of /api/status. Thread-safe."""

    def __init__(self, facts: Mapping[str, Any] | None = None) -> None:
        self._lock = threading.Lock()
        self._facts: dict[str, Any] = dict(facts or {})
        self._missing: dict[str, str] = {"log": "not reached yet", "state": "not recovered yet"}
        self._role = Role.STANDBY
        self._stirred_at: float | None = None
        self._awaited: tuple[str, float] | None = None
        self.cut_off_seconds: Callable[[], float] = lambda: 0.0
        """For how long the log's connections have been lost: asked for, as nobody looks while a batch is computed."""

    def stirred(self) -> None:
        """The deciding loop reached its next step."""
        self._stirred_at = monotonic()

    @property
    def hung_seconds(self) -> float | None:
        """Seconds since the deciding loop's last step if longer than any step may take; else None."""
        if self._stirred_at is None:  # not running yet: the model is being loaded
            return None
        silent = monotonic() - self._stirred_at
        return silent if silent > LONGEST_SILENCE_SECONDS else None

    def awaits_log(self, what: str | None) -> None:
        """The deciding loop waits for the log from now on, for `what`; None: it has its answer."""
        self._awaited = None if what is None else (what, monotonic())

    def lacks(self, name: str, why: str) -> None:
        """Something that readiness requires is missing, for this reason."""
        with self._lock:
            self._missing[name] = why

    def has(self, name: str) -> None:
        """Something that readiness requires is there."""
        with self._lock:
            self._missing.pop(name, None)

    def role_changed(self, role: Role) -> None:
        """The role of this process in the group from now on."""
        with self._lock:
            self._role = role

    def learned(self, **facts: Any) -> None:
        """Add facts to /api/status; none may be a secret."""
        with self._lock:
            self._facts.update(facts)

    @property
    def missing(self) -> dict[str, str]:
        """What keeps the daemon from being ready: name → reason. A log that is slow to answer does so by itself."""
        with self._lock:
            missing = dict(self._missing)
        if (awaited := self._awaited) is not None:
            what, since = awaited
            seconds = monotonic() - since
            if seconds > LONGEST_ANSWER_SECONDS:
                missing.setdefault("log", f"unreachable: no answer for {seconds:.0f} s ({what})")
        if (seconds := self.cut_off_seconds()) > LONGEST_ANSWER_SECONDS:
            missing.setdefault("log", f"unreachable: no connection for {seconds:.0f} s")
        return missing

    def as_facts(self) -> dict[str, Any]:
        """Role, readiness and all facts, as plain values."""
        missing = self.missing
        with self._lock:
            return {"role": self._role.value, "ready": not missing, "missing": missing, **self._facts}
