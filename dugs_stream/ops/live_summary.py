"""Live summary of `dugs run` on a terminal: a few lines at the bottom that follow the daemon, with the log above them.

A thread of its own reads the metrics and the status, and writes the log lines too: the deciding thread only queues
them, so neither drawing nor a stopped terminal (Ctrl-S) makes it wait. The cursor is never hidden and the terminal's
modes are never changed, so nothing has to be restored however the process ends.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import TextIO

from prometheus_client import CollectorRegistry
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dugs_stream.ops.logging.lines import printable
from dugs_stream.ops.metrics import CommitOutcome, Stage
from dugs_stream.ops.status import Status
from dugs_stream.records import Verdict

# Twice a second reads as live, and costs some milliseconds of a core each time.
_REDRAW_SECONDS = 0.5
# Rates and shares cover this long: steady enough to read, short enough to see a change.
_WINDOW_SECONDS = 10.0
# Lines that wait for a stopped terminal: at one a micro-batch, an hour's worth. The oldest are dropped first.
_MOST_WAITING = 10_000
_NAMES = ("dugs_records_total", "dugs_stage_duration_seconds_sum", "dugs_commits_total", "dugs_index_uniques")


def suits(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether a summary can be drawn on the stream: a terminal that can move its cursor."""
    return stream.isatty() and environ.get("TERM", "dumb") not in {"", "dumb", "unknown"}


@dataclass(frozen=True, slots=True)
class Readings:
    """The metrics at one moment; `at` in seconds of the monotonic clock."""

    at: float
    records: Mapping[str, float]
    stages: Mapping[str, float]
    commits: float
    uniques: float

    @classmethod
    def of(cls, registry: CollectorRegistry, at: float) -> Readings:
        """Read the few metrics that are shown, in one pass."""
        found = {
            (sample.name, *sample.labels.values()): sample.value
            for metric in registry.restricted_registry(_NAMES).collect()
            for sample in metric.samples
        }
        records, stages, commits, uniques = _NAMES
        return cls(
            at,
            {verdict.value: found.get((records, verdict.value), 0.0) for verdict in Verdict},
            {stage.value: found.get((stages, stage.value), 0.0) for stage in Stage},
            found.get((commits, CommitOutcome.COMMITTED.value), 0.0),
            found.get((uniques,), 0.0),
        )


class LiveSummary:
    """The summary and the log above it, a `LineSink` of ops.logging. Outside of `watching`, lines are written directly."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._waiting: deque[str] = deque(maxlen=_MOST_WAITING)
        self._past: deque[Readings] = deque()
        self._committed_at: float | None = None
        self._live: Live | None = None
        self._drawing = threading.RLock()

    # -- lines -----------------------------------------------------------------------------------------

    def write(self, text: str) -> None:
        """Take lines of the log."""
        self._waiting.append(text)
        if self._live is None:
            self.flush()

    def flush(self) -> None:
        """Write the queued lines above the summary."""
        with self._drawing:
            text = self._take()
            if not text:
                return
            if self._live is None:
                self._stream.write(text)
                self._stream.flush()
            else:
                self._live.console.print(Text.from_ansi(text.rstrip("\n")), soft_wrap=True, highlight=False)

    def leave(self) -> None:
        """Write the queued lines from a signal handler that is about to end the process: without taking the lock."""
        with contextlib.suppress(OSError, ValueError):
            os.write(self._stream.fileno(), ("\n" + self._take()).encode("utf-8", "backslashreplace"))

    def _take(self) -> str:
        return "".join(self._waiting.popleft() for _ in range(len(self._waiting)))

    # -- drawing ---------------------------------------------------------------------------------------

    @contextmanager
    def watching(self, registry: CollectorRegistry, status: Status) -> Iterator[None]:
        """Draw until the block ends; the last summary stays on the screen."""
        over = threading.Event()
        console = _SteadyConsole(file=self._stream, force_terminal=True)

        def look() -> Table:
            return self._table(Readings.of(registry, monotonic()), status)

        live = Live(look(), console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)

        def draw() -> None:
            with self._drawing:
                self.flush()
                live.update(look(), refresh=True)

        def keep_drawing() -> None:
            with contextlib.suppress(OSError, ValueError):  # the terminal is gone
                while not over.wait(_REDRAW_SECONDS):
                    draw()

        thread = threading.Thread(target=keep_drawing, name="summary", daemon=True)
        live.start()
        self._live = live
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            with contextlib.suppress(OSError, ValueError), self._drawing:
                draw()
                live.stop()
            self._live = None

    def _table(self, now: Readings, status: Status) -> Table:
        before = self._window(now)
        facts = status.as_facts()
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis")
        verdicts = " · ".join(f"{verdict} {count:,.0f}" for verdict, count in now.records.items())
        table.add_row("daemon", _state(facts))
        table.add_row("records", _records(now, before, facts.get("lag")))
        table.add_row("verdicts", verdicts)
        table.add_row("uniques", f"{now.uniques:,.0f}")
        table.add_row("commit", self._last_commit(now, facts.get("changelog_position")))
        table.add_row("time in", _shares(now, before))
        return table

    def _window(self, now: Readings) -> Readings:
        """Add the readings to the window and note the time of a commit; returns the oldest readings within the window."""
        if self._past and now.commits > self._past[-1].commits:
            self._committed_at = now.at
        self._past.append(now)
        while now.at - self._past[0].at > _WINDOW_SECONDS:
            self._past.popleft()
        return self._past[0]

    def _last_commit(self, now: Readings, position: object) -> str:
        if self._committed_at is None:
            return "none yet"
        place = "" if position is None else f", changelog at {position}"
        return f"{now.at - self._committed_at:.0f} s ago, {now.commits:,.0f} since the start{place}"


class _SteadyConsole(Console):
    """A console that never hides the cursor: after a kill it would stay hidden in the user's shell."""

    def show_cursor(self, show: bool = True) -> bool:  # noqa: ARG002
        return False


def _state(facts: Mapping[str, object]) -> Text:
    missing = facts.get("missing")
    if not isinstance(missing, Mapping) or not missing:
        return Text(f"{facts.get('role')}, ready")
    reasons = "; ".join(f"{name}: {why}" for name, why in missing.items())
    return Text(printable(f"{facts.get('role')}, not ready: {reasons}"), style="yellow")


def _records(now: Readings, before: Readings, lag: object) -> str:
    decided = sum(now.records.values())
    seconds = now.at - before.at
    rate = (decided - sum(before.records.values())) / seconds if seconds > 0 else 0.0
    behind = "" if not isinstance(lag, int) else f", {lag:,} to go"
    return f"{decided:,.0f} decided, {rate:,.0f} a second{behind}"


def _shares(now: Readings, before: Readings) -> str:
    spent = {stage: now.stages[stage] - before.stages[stage] for stage in now.stages}
    total = sum(spent.values())
    if total <= 0:
        return "nothing yet"
    return " · ".join(f"{stage} {seconds / total:.0%}" for stage, seconds in spent.items())
