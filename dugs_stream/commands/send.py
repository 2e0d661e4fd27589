"""What do `dugs send`, `tail`, `scan` and `demo` do? Each one function on settings, returning what to print."""

from __future__ import annotations

import itertools
import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dugs_stream.app.daemon import open_daemon
from dugs_stream.app.engine import build_engine
from dugs_stream.app.logs import open_log, open_reader, open_writer, prepare_input, topic_names
from dugs_stream.config import Settings
from dugs_stream.core.index.unique_index import UniqueIndex
from dugs_stream.daemon.signals import Stopping, signals_as_flags
from dugs_stream.daemon.steps import RecoveryStep, Step
from dugs_stream.errors import ConfigurationError, Problem
from dugs_stream.inputs.files import list_files
from dugs_stream.lab.demo import demo
from dugs_stream.log.port import Stop
from dugs_stream.ops.logging.configure import configure_logs
from dugs_stream.outputs.event import build_event
from dugs_stream.outputs.messages import read_event
from dugs_stream.records import Message, Record


def send(
    settings: Settings,
    paths: Sequence[Path],
    *,
    repeat: int = 1,
    limit: int | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> int:
    """`dugs send`: files onto the input topic; returns how many. Stored for sure once it returns."""
    listing = list_files(paths, settings.input.codec.type)
    total = min(len(listing) * repeat, limit or len(listing) * repeat)
    samples = itertools.chain.from_iterable(listing.samples() for _ in range(repeat))
    prepare_input(settings)
    writer = open_writer(settings)
    try:
        for done, sample in enumerate(itertools.islice(samples, total), start=1):
            writer.send(settings.input.topic, sample)
            on_progress(done, total)
        writer.flush()
    finally:
        writer.close()
    return total


def events(
    settings: Settings, topic: str, *, follow: bool = False, stop: Stop = lambda: False
) -> Iterator[Mapping[str, Any]]:
    """`dugs tail`: the events of an output topic, from its beginning; with `follow` until `stop` says so."""
    names = topic_names(settings)
    chosen = {"unique": names.unique, "decisions": names.decisions, "dead-letter": names.dead_letter}[topic]
    if chosen is None:
        problem = Problem(
            "output.decisions_topic", "no decisions topic is configured.", "Name one to have every verdict."
        )
        raise ConfigurationError([problem])
    reader = open_reader(settings)
    try:
        for sample in reader.read(chosen, follow=follow, stop=stop):
            yield read_event(sample)
    finally:
        reader.close()


def scan(
    settings: Settings,
    paths: Sequence[Path],
    write: Callable[[str], None],
    *,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Mapping[str, int]:
    """`dugs scan`: the engine over files, in memory; one event a line, counts by verdict returned."""
    listing = list_files(paths, settings.input.codec.type)
    engine = build_engine(settings)
    index, ids = UniqueIndex(settings.gradient.dimension), list[str]()
    verdicts: Counter[str] = Counter()
    done = 0
    for samples in _batches(listing.samples(), settings.input.batch.records):
        projected = engine.projector.project(samples)
        for judgement in engine.judge.decide(projected, index, ids.__getitem__):
            if judgement.vector is not None:
                ids.append(judgement.record.id)
                index.add(judgement.vector[np.newaxis])
            verdicts[judgement.decision.verdict.value] += 1
            write(json.dumps(build_event(judgement, engine.identity), ensure_ascii=False))
        done += len(samples)
        on_progress(done, len(listing))
    return verdicts


def _batches(samples: Iterator[Record], size: int) -> Iterator[list[Record]]:
    while batch := list(itertools.islice(samples, size)):
        yield batch


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
        layers = daemon.loop.stages.projector.layer_names
    if stopping.requested:
        raise KeyboardInterrupt  # half a stream would make a table that says nothing
    return demo.StreamResult(
        events=tuple(events(settings, "decisions")),
        seconds=entered[-1] - entered[0],
        threshold=settings.selection.threshold,
        dimension=settings.gradient.dimension,
        layers=layers,
    )
