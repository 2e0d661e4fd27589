"""Somebody who asks the daemon's HTTP server again and again, from a process of its own: Prometheus and a browser.

    python -m benchmarks.visitor PORT SECONDS /metrics /api/status …

Asks every path once, says so with a line, asks again each SECONDS until its stdin is closed, then prints the seconds
that each answer took, by path. It imports nothing heavy: a start of seconds would be taken from the daemon's cores.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
# A daemon that has decided all closes its state, and some time later we are told to go.
_CLOSING_SECONDS = 20.0


class Visitor:
    """What the other process measured, once the visit is over."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}


@contextmanager
def visited(port: int, every_seconds: float, paths: Sequence[str]) -> Iterator[Visitor]:
    """Have the paths asked for while the block runs; afterwards the visitor knows how long each answer took."""
    visitor = Visitor()
    words = [sys.executable, "-m", "benchmarks.visitor", str(port), str(every_seconds), *paths]
    process = subprocess.Popen(  # noqa: S603 -- fixed words and our own paths
        words, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()  # it is there, and was answered once
        yield visitor
    finally:
        said, _ = process.communicate()
    assert process.returncode == 0, "the visitor failed"
    visitor.seconds = json.loads(said)


def _visit(port: int, every_seconds: float, paths: Sequence[str]) -> dict[str, list[float]]:
    """Ask until told to go; every answer must be a good one, but of a daemon that is closing down."""
    leaving = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), leaving.set()), daemon=True).start()
    seconds: dict[str, list[float]] = {path: [] for path in paths}
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    is_first = True
    while is_first or not leaving.wait(every_seconds):
        for path in paths:
            began_at = time.perf_counter()
            connection.request("GET", path)
            answer = connection.getresponse()
            said = answer.read()
            if answer.status == 503 and leaving.wait(_CLOSING_SECONDS):
                return seconds
            seconds[path].append(time.perf_counter() - began_at)
            assert answer.status == 200, f"{path}: {answer.status} {said[:200]!r}"
        if is_first:
            print("here", flush=True)
        is_first = False
    return seconds


if __name__ == "__main__":
    print(json.dumps(_visit(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])))
