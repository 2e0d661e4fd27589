"""Lingering after a refusal: the daemon stays up for a while, decides nothing, and shows why.

Under a supervisor a refused daemon starts, refuses and leaves within seconds, over and over, and between two scrapes
nothing of it can be seen. So it closes the log and the state folder first, then answers /metrics with `dugs_refused` and
/readyz with the reason, and leaves with the exit code of the refusal.
"""

from __future__ import annotations

from dugs_stream.daemon.daemon import Daemon
from dugs_stream.errors import ChangelogError

# Prometheus scrapes once a minute by default. The next start would be refused just the same, so nothing is lost by
# being slow, and a supervisor's restarts become rarer.
_SECONDS = 75.0
# The service manager wants a sign of life, and a stop an answer.
_LOOK_SECONDS = 1.0


def linger_after_refusal(daemon: Daemon, error: ChangelogError, seconds: float = _SECONDS) -> None:
    """Show the refusal until `seconds` are over or the process is told to stop. `daemon.run` must have ended."""
    daemon.watchers.tell.refused(error, seconds)
    for _ in range(int(seconds / _LOOK_SECONDS)):
        daemon.watchers.tell.alive()
        if daemon.stopping.event.wait(_LOOK_SECONDS):
            return
