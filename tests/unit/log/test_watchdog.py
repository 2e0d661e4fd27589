"""The watchdog of a commit: one that does not return ends the process."""

from __future__ import annotations

import json
import subprocess
import sys

from dugs_stream.log.watchdog import process_ends_unless_done_within

HANGS = """
import threading
from dugs_stream.log.watchdog import process_ends_unless_done_within
with process_ends_unless_done_within(0.05, "the commit"):
    threading.Event().wait(60)
"""


def test_block_that_does_not_return_ends_the_process_with_70() -> None:
    """The exit code says that the outcome is unknown, and a line says what to do."""
    ended = subprocess.run(
        [sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=30, check=False
    )

    assert ended.returncode == 70
    assert "the commit did not return within 0.05 s" in ended.stderr
    assert "start again" in ended.stderr


def test_watchdog_leaves_a_line_in_the_log() -> None:
    """If logging is set up it is an event in its format, written before the process ends."""
    configure = (
        "from dugs_stream.ops.logging.configure import configure_logs\nconfigure_logs('error', 'json')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", configure + HANGS], capture_output=True, text=True, timeout=30, check=False
    )

    (line,) = ended.stderr.splitlines()
    assert (ended.returncode, ended.stdout) == (70, "")
    assert (json.loads(line)["event"], json.loads(line)["exit_code"]) == ("commit.unanswered", 70)


def test_block_that_returns_in_time_is_left_alone() -> None:
    """The watchdog goes with its block, also when the block raises."""
    codes: list[int] = []
    with process_ends_unless_done_within(60, "the commit", end=codes.append):
        pass

    assert codes == []
