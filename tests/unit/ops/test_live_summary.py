"""The live summary of `dugs run`, drawn on a real pseudo-terminal in this process."""

from __future__ import annotations

import io
import os
import pty
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from dugs_stream.changelog.replay import BEGINNING
from dugs_stream.ops.live_summary import LiveSummary, suits
from dugs_stream.ops.metrics import Metrics, Role
from dugs_stream.ops.status import Status
from dugs_stream.records import Decision, JudgedRecord, Record, SequenceNumber, Verdict
from tests.support.terminals.terminal import Terminal
from tests.support.waiting import wait_until


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """A terminal with colours."""
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    opened = Terminal()
    yield opened
    opened.close()


@pytest.fixture
def metrics() -> Metrics:
    """Eight records: three unique, five duplicates."""
    filled = Metrics(CollectorRegistry())
    for offset in range(8):
        verdict = Verdict.UNIQUE if offset < 3 else Verdict.DUPLICATE
        decision = Decision(verdict, sequence=SequenceNumber(offset) if offset < 3 else None)
        filled.batch_committed(
            [JudgedRecord(Record(None, b"", topic="t", partition=0, offset=offset), decision, 0, 0.3)],
            BEGINNING,
        )
    filled.head_moved(replace(BEGINNING, uniques=3))
    return filled


@contextmanager
def shown_on(terminal: Terminal, metrics: Metrics, status: Status) -> Iterator[LiveSummary]:
    """A summary that is being drawn."""
    with os.fdopen(os.dup(terminal.theirs), "w") as stream:
        summary = LiveSummary(stream)
        with summary.watching(metrics.registry, status):
            yield summary


def owner() -> Status:
    status = Status()
    status.role_changed(Role.OWNER)
    status.has("log")
    status.has("state")
    status.learned(lag=1234, changelog_position=57)
    return status


def test_summary_shows_role_rate_verdicts_uniques_lag_commit_and_stages(
    terminal: Terminal, metrics: Metrics
) -> None:
    """Everything that a glance at the terminal is for."""
    with shown_on(terminal, metrics, owner()):
        with metrics.stage("gradient"):
            metrics.batch_committed([], BEGINNING)
        wait_until(lambda: "9 since the start, changelog at 57" in terminal.text, 10)

    for said in (
        "owner, ready",
        "8 decided",
        "a second",
        "1,234 to go",
        "unique 3 · duplicate 5 · no_gradient 0 · rejected 0",
        "gradient 100%",
    ):
        assert said in terminal.text, said


def test_summary_says_what_is_missing_on_one_line(terminal: Terminal, metrics: Metrics) -> None:
    """An error text with a line break or an escape cannot spoil the drawing."""
    status = Status()
    status.lacks("log", "no\nbroker\x1b[2J")
    with shown_on(terminal, metrics, status):
        wait_until(lambda: "not ready" in terminal.text, 10)

    assert r"log: no\nbroker\x1b[2J" in terminal.text
    assert "\x1b[2J" not in terminal.raw


def test_log_lines_come_whole_and_in_order_above_the_summary(terminal: Terminal, metrics: Metrics) -> None:
    """Also those longer than the terminal is wide, and those written as it ends."""
    lines = [f"line-{number} " + "x" * 200 for number in range(50)]
    with shown_on(terminal, metrics, owner()) as summary:
        for line in lines[:-1]:
            summary.write(line + "\n")
        wait_until(lambda: "line-48" in terminal.text, 10)
        summary.write(lines[-1] + "\n")
    wait_until(lambda: terminal.text.endswith("\r\n"), 10)

    assert re.findall(r"line-\d+ x+", terminal.text) == lines
    assert terminal.text.rindex("line-49") < terminal.text.rindex("daemon")


def test_cursor_is_never_hidden_and_no_mode_is_changed(terminal: Terminal, metrics: Metrics) -> None:
    """However the process ends, the user's shell is as before."""
    with shown_on(terminal, metrics, owner()):
        wait_until(lambda: "time in" in terminal.text, 10)
        modes = terminal.modes

    assert modes == terminal.modes_before
    assert "\x1b[?25l" not in terminal.raw
    assert "\x1b[?1049h" not in terminal.raw


@pytest.mark.parametrize("no_color", ["", "1"])
def test_no_color_is_respected(
    terminal: Terminal, metrics: Metrics, monkeypatch: pytest.MonkeyPatch, no_color: str
) -> None:
    """Still live, without a colour."""
    monkeypatch.setenv("NO_COLOR", no_color)
    with shown_on(terminal, metrics, Status()):
        wait_until(lambda: "not ready" in terminal.text, 10)

    assert ("\x1b[33m" in terminal.raw) == (not no_color)


def test_stopped_terminal_blocks_only_the_drawing_thread(metrics: Metrics) -> None:
    """Ctrl-S, or a slow line: a terminal that takes nothing does not block the threads that log."""
    ours, theirs = pty.openpty()
    freed = threading.Event()
    reader = threading.Thread(target=lambda: (freed.wait(15), _read_all(ours)), daemon=True)
    reader.start()
    with os.fdopen(theirs, "w") as stream:
        summary = LiveSummary(stream)
        with summary.watching(metrics.registry, owner()):
            began = time.monotonic()
            for number in range(20_000):
                summary.write(f"line {number} {'x' * 100}\n")
            took = time.monotonic() - began
            freed.set()

    reader.join(30)
    os.close(ours)
    assert took < 5


def _read_all(descriptor: int) -> None:
    while True:
        try:
            if not os.read(descriptor, 65536):
                return
        except OSError:  # the other end is closed
            return


def test_last_words_of_a_killed_process_are_out_at_once(terminal: Terminal, metrics: Metrics) -> None:
    """What waits to be drawn is written by `leave`, and the shell's prompt begins on a line of its own."""
    with os.fdopen(os.dup(terminal.theirs), "w") as stream:
        summary = LiveSummary(stream)
        with summary.watching(metrics.registry, owner()):
            wait_until(lambda: "time in" in terminal.text, 10)
            with summary._drawing:  # as a second signal may find it
                summary.write("last words\n")
                summary.leave()
            wait_until(lambda: "\r\nlast words\r\n" in terminal.text, 10)


def test_lines_before_and_after_the_drawing_go_straight_out() -> None:
    """The daemon's start and its last error."""
    stream = io.StringIO()
    summary = LiveSummary(stream)

    summary.write("first\n")

    assert stream.getvalue() == "first\n"


def test_only_a_terminal_that_can_move_its_cursor_suits(terminal: Terminal, tmp_path: Path) -> None:
    """Not a dumb or unknown one, and not a file, even with TERM set to xterm."""
    with os.fdopen(os.dup(terminal.theirs), "w") as stream, (tmp_path / "log").open("w") as file:
        assert suits(stream, {"TERM": "xterm"})
        for environ in ({"TERM": "dumb"}, {"TERM": ""}, {"TERM": "unknown"}, {}):
            assert not suits(stream, environ), environ
        assert not suits(file, {"TERM": "xterm"})
