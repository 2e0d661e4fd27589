"""How does a refusal get seen? The process that refuses stays up for a while, decides nothing, and says why.

Under a supervisor a refused daemon starts, refuses and leaves within seconds, over and over, and between two scrapes
nothing of it is left to see. So it lets go of the log and the state folder first, then answers /metrics with
`dugs_refused` and /readyz with the reason, and leaves with its exit code as it would have.
"""

from __future__ import annotations

import structlog

from dugs_stream.daemon.daemon import Daemon
from dugs_stream.errors import ChangelogError, OffsetsDisagreeError
from dugs_stream.ops.metrics import RefusalReason

_log = structlog.get_logger("dugs")

# Prometheus scrapes once a minute where nobody says otherwise. The next start would be refused just the same, so
# nothing is lost by being slow, and a supervisor's restarts become rarer.
_SECONDS = 75.0
# The service manager wants a sign of life, and whoever stops the process an answer.
_LOOK_SECONDS = 1.0


def linger_after_refusal(daemon: Daemon, error: ChangelogError, seconds: float = _SECONDS) -> None:
    """Show the refusal until `seconds` are over or the process is told to stop. The daemon's life must have ended."""
    disagree = isinstance(error, OffsetsDisagreeError)
    daemon.metrics.refused(RefusalReason.OFFSETS_DISAGREE if disagree else RefusalReason.CHANGELOG)
    daemon.status.lacks("changelog", str(error))
    _log.error(
        "daemon.refused", error=str(error), then=f"leaving in {seconds:.0f} s, at once when told to stop"
    )
    for _ in range(int(seconds / _LOOK_SECONDS)):
        daemon.notices.alive(daemon.status)
        if daemon.stopping.event.wait(_LOOK_SECONDS):
            return
