"""Peak memory of this process, for the reports of studies."""

from __future__ import annotations

import resource
import sys


def peak_memory_bytes() -> int:
    """The largest resident size so far, pages of mapped files included; macOS counts bytes, Linux KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
