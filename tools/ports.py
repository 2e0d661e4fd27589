"""Free loopback ports for servers that are started a while later.

The kernel's own pick (port 0) is no reservation: until the server binds it, the same number may go to any outgoing
connection or to another test's listener. These numbers lie outside the range that the kernel picks from, and none is
given out twice before all others were.
"""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

import filelock

_FIRST, _LAST = 12_000, 65_535
_KERNELS_OWN = Path("/proc/sys/net/ipv4/ip_local_port_range")
# What Linux has without another setting; it contains macOS's range.
_USUAL = (32_768, 65_535)


def free_port() -> int:
    """A loopback port that nothing listens on and that nobody else on this machine is given for a long while."""
    ports = _ports()
    folder = Path(tempfile.gettempdir()) / f"dugs-ports-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    last = folder / "last"
    with filelock.FileLock(folder / "lock"):
        start = _position_after(last, ports)
        for step in range(len(ports)):
            port = ports[(start + step) % len(ports)]
            if _can_be_bound(port):
                last.write_text(str(port))
                return port
    raise OSError(f"every loopback port from {ports[0]} to {ports[-1]} is in use")


def _ports() -> range:
    """The longer part of the unprivileged ports that the kernel never picks."""
    low, high = _USUAL
    if _KERNELS_OWN.exists():
        low, high = map(int, _KERNELS_OWN.read_text().split())
    below, above = range(_FIRST, max(_FIRST, low)), range(high + 1, _LAST + 1)
    return max(below, above, key=len) or range(_FIRST, _LAST + 1)


def _position_after(last: Path, ports: range) -> int:
    """Where to go on; at the beginning if nothing, or nothing that can be read, was written."""
    try:
        return ports.index(int(last.read_text())) + 1
    except (OSError, ValueError):
        return 0


def _can_be_bound(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
