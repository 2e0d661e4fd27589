"""`dugs send`: files onto the input topic."""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Protocol

from dugs_stream.app.daemon import open_daemon
from dugs_stream.app.logs import open_log, open_writer, prepare_input
from dugs_stream.commands.progress import Progress, silent
from dugs_stream.commands.tail import events
from dugs_stream.config import Settings
from dugs_stream.daemon.signals import Stopping, signals_as_flags
from dugs_stream.daemon.steps import RecoveryStep, Step
from dugs_stream.inputs.files import list_files
from dugs_stream.lab.demo import demo
from dugs_stream.ops.logging.configure import configure_logs
from dugs_stream.records import Message


def send(
    settings: Settings,
    paths: Sequence[Path],
    *,
    repeat: int = 1,
    limit: int | None = None,
    on_progress: Progress = silent,
) -> int:
    """Send the files under `paths`, all of them `repeat` times, at most `limit` records; returns how many were sent.

    They are stored durably when it returns.
    """
    listing = list_files(paths, settings.input.codec.type)
    total = min(len(listing) * repeat, limit or len(listing) * repeat)
    records = itertools.chain.from_iterable(listing.samples() for _ in range(repeat))
    prepare_input(settings)
    with closing(open_writer(settings)) as writer:
        for done, record in enumerate(itertools.islice(records, total), start=1):
            writer.send(settings.input.topic, Message(record.key, record.value, record.headers))
            on_progress(done, total)
        writer.flush()
    return total


# -- the demo ----------------------------------------------------------------------------------------------


def run_demo(out: Path, announce: StreamAnnouncer) -> demo.DemoResult:
    """`dugs demo`: train, then stream through the daemon on an embedded log inside `out`, made anew."""
    configure_logs("warning", "console")
    return demo.run_demo(
        out, announce=announce, run_stream=lambda request: _run_demo_stream(out, request, announce.streamed)
    )


class StreamAnnouncer(demo.Announcer, Protocol):
    """An announcer that hears of the stream's progress too."""

    def streamed(self, done: int, total: int) -> None:
        """So many records are decided."""


def _demo_settings(out: Path, request: demo.StreamRequest) -> Settings:
    """The defaults, with every file in a folder of this run, every verdict kept, and any free port."""
    folder = out / "work" / request.name
    shutil.rmtree(folder, ignore_errors=True)
    return Settings.model_validate(
        {
            "log": {"embedded": {"path": folder / "log.db"}},
            "input": {"codec": {"type": "image", "mode": "L"}},
            "output": {"decisions_topic": "dugs.decisions"},
            "model": {"kwargs": dict(request.model_kwargs), "weights": str(request.weights)},
            "gradient": {"loss": request.loss},
            "state": {"dir": folder / "state"},
            "http": {"port": 0},
        }
    )


def put_on_input(settings: Settings, messages: Iterable[Message]) -> None:
    """Make the topics where they are missing, and store these records on the input."""
    log = open_log(settings)
    log.prepare()
    log.close()
    writer = open_writer(settings)
    for message in messages:
        writer.send(settings.input.topic, message)
    writer.close()


def _run_demo_stream(
    out: Path, request: demo.StreamRequest, on_progress: Callable[[int, int], None]
) -> demo.StreamResult:
    settings = _demo_settings(out, request)
    put_on_input(settings, request.messages)
    entered: list[float] = []

    def on_step(step: Step | RecoveryStep) -> None:
        if step is Step.POLL:
            entered.append(time.perf_counter())
            on_progress(sum(daemon.next_offsets.values()), len(request.messages))

    stopping = Stopping()
    with signals_as_flags(stopping), open_daemon(settings, stopping=stopping, on_step=on_step) as daemon:
        daemon.run(drain=True)
        layers = tuple(layer.name for layer in daemon.judge.deduplicator.chosen_layers)
    if stopping.requested:
        raise KeyboardInterrupt  # half a stream would make a table that says nothing
    return demo.StreamResult(
        events=tuple(events(settings, "decisions")),
        seconds=entered[-1] - entered[0],
        threshold=settings.selection.threshold,
        dimension=settings.gradient.dimension,
        layers=layers,
    )
