"""A daemon that dies at a named step: `python -m tests.support.killed_daemon CONFIG STEP NTH`.

The step's observer is the daemon's own; the death is a SIGKILL, so no `finally` runs.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from dugs_stream.app import daemon_beside
from dugs_stream.config import load_settings
from dugs_stream.daemon import Step


def main(config: str, step: str, nth: int) -> None:
    """Live until the nth time that the step begins, then die; drain the input where that never comes."""
    seen = 0

    def die(entered: Step) -> None:
        nonlocal seen
        seen += entered.value == step
        if seen == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    with daemon_beside(load_settings(Path(config)), on_step=die) as daemon:
        daemon.run(drain=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
