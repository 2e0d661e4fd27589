"""A stream of records through the daemon, on an embedded log of its own.

The daemon is the one of `dugs run`, drained: it ends once the last record is decided and committed.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dugs_stream.app.daemon import open_daemon
from dugs_stream.app.logs import open_log, open_writer
from dugs_stream.commands.tail import events
from dugs_stream.config import Settings
from dugs_stream.daemon.signals import Stopping, signals_as_flags
from dugs_stream.daemon.steps import RecoveryStep, Step
from dugs_stream.lab.demo.configuration import places_in
from dugs_stream.records import Message


@dataclass(frozen=True, slots=True)
class StreamResult:
    """One event a record in the order of deciding, and the settings that they were judged by.

    seconds  from the first record polled to the last one committed
    """

    events: Sequence[Mapping[str, Any]]
    seconds: float
    threshold: float
    dimension: int
    layers: tuple[str, ...]


def run_stream(
    folder: Path,
    messages: Sequence[Message],
    judged_by: Mapping[str, Mapping[str, Any]],
    on_progress: Callable[[int, int], None],
) -> StreamResult:
    """Judge records in their order, from an empty log and an empty index in `folder`, which is made anew.

    judged_by    the sections of the configuration that name codec, model, gradient and threshold; the rest are the
                 defaults, with every file in `folder`, every verdict kept, and any free port
    on_progress  hears (records decided, records in all)
    Raises KeyboardInterrupt if a signal ends the stream early: the counts of half a stream say nothing.
    """
    shutil.rmtree(folder, ignore_errors=True)
    settings = _settings(folder, judged_by)
    put_on_input(settings, messages)
    polled_at: list[float] = []

    def on_step(step: Step | RecoveryStep) -> None:
        if step is Step.POLL:
            polled_at.append(time.perf_counter())
            on_progress(sum(daemon.next_offsets.values()), len(messages))

    stopping = Stopping()
    with signals_as_flags(stopping), open_daemon(settings, stopping=stopping, on_step=on_step) as daemon:
        daemon.run(drain=True)
        layers = daemon.loop.stages.projector.layer_names
    if stopping.requested:
        raise KeyboardInterrupt
    return StreamResult(
        events=tuple(events(settings, "decisions")),
        seconds=polled_at[-1] - polled_at[0],
        threshold=settings.selection.threshold,
        dimension=settings.gradient.dimension,
        layers=layers,
    )


def _settings(folder: Path, judged_by: Mapping[str, Mapping[str, Any]]) -> Settings:
    return Settings.model_validate({**judged_by, **places_in(folder), "http": {"port": 0}})


def put_on_input(settings: Settings, messages: Iterable[Message]) -> None:
    """Make missing topics, and store these records on the input."""
    log = open_log(settings)
    log.prepare()
    log.close()
    writer = open_writer(settings)
    for message in messages:
        writer.send(settings.input.topic, message)
    writer.close()
