"""What is true of the daemon right now, written by its one thread and read by the HTTP server's.

Readiness is a list of what is still missing, each by name with the reason: ready means an empty list.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from time import monotonic
from typing import Any

from dugs_stream.ops.metrics import Role

# After this long without a sign of life the deciding loop hangs: deploy/systemd/dugs-stream.service, whose WatchdogSec
# it is, argues for the number.
LONGEST_SILENCE_SECONDS = 360.0


class Status:
    """Role, what is missing, and the facts that /api/status shows. Safe to use from any thread."""

    def __init__(self, facts: Mapping[str, Any] | None = None) -> None:
        self._lock = threading.Lock()
        self._facts: dict[str, Any] = dict(facts or {})
        self._missing: dict[str, str] = {"log": "not reached yet", "state": "not recovered yet"}
        self._role = Role.STANDBY
        self._stirred_at: float | None = None

    def stirred(self) -> None:
        """The deciding loop has come to its next step."""
        self._stirred_at = monotonic()

    @property
    def hung_seconds(self) -> float | None:
        """How long the deciding loop has been silent, where that is longer than any legal step; None else."""
        if self._stirred_at is None:  # it does not run yet: the model is being loaded
            return None
        silent = monotonic() - self._stirred_at
        return silent if silent > LONGEST_SILENCE_SECONDS else None

    def lacks(self, name: str, why: str) -> None:
        """Something needed to be ready is missing."""
        with self._lock:
            self._missing[name] = why

    def has(self, name: str) -> None:
        """Something needed to be ready is there."""
        with self._lock:
            self._missing.pop(name, None)

    def role_changed(self, role: Role) -> None:
        """What this process is to the group from now on."""
        with self._lock:
            self._role = role

    def learned(self, **facts: Any) -> None:
        """Facts for /api/status; none of them may be a secret."""
        with self._lock:
            self._facts.update(facts)

    @property
    def missing(self) -> dict[str, str]:
        """What keeps the daemon from being ready, by name, with the reason."""
        with self._lock:
            return dict(self._missing)

    def as_facts(self) -> dict[str, Any]:
        """Everything known, as plain values."""
        with self._lock:
            return {
                "role": self._role.value,
                "ready": not self._missing,
                "missing": dict(self._missing),
                **self._facts,
            }
