"""What do `dugs send`, `tail` and `scan` do? Each one function on settings, returning what to print."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dugs_stream.app.engine import build_engine
from dugs_stream.app.logs import open_reader, open_writer, prepare_input, topic_names
from dugs_stream.config import Settings
from dugs_stream.errors import ConfigurationError, Problem
from dugs_stream.inputs.files import list_files
from dugs_stream.log.port import Stop
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
            writer.send(settings.input.topic, Message(sample.key, sample.value, sample.headers))
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
    ids: list[str] = []
    verdicts: Counter[str] = Counter()
    done = 0
    for samples in _batches(listing.samples(), settings.input.batch.records):
        judged = engine.judge.judge(samples, ids.__getitem__)
        engine.judge.deduplicator.accept(judged.projection, judged.decisions)
        for judgement in judged:
            if judgement.decision.sequence is not None:
                ids.append(judgement.record.id)
            verdicts[judgement.decision.verdict.value] += 1
            write(json.dumps(build_event(judgement, engine.identity), ensure_ascii=False))
        done += len(samples)
        on_progress(done, len(listing))
    return verdicts


def _batches(samples: Iterator[Record], size: int) -> Iterator[list[Record]]:
    while batch := list(itertools.islice(samples, size)):
        yield batch
