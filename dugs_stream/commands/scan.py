"""`dugs scan`: the daemon's decisions over files, in memory, without a log and without a state folder."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from dugs_stream.app.engine import build_engine
from dugs_stream.commands.progress import Progress, silent
from dugs_stream.config import Settings
from dugs_stream.core.index.unique_index import UniqueIndex
from dugs_stream.inputs.files import list_files
from dugs_stream.outputs.event import build_event
from dugs_stream.records import Record


def scan(
    settings: Settings,
    paths: Sequence[Path],
    write: Callable[[str], None],
    *,
    on_progress: Progress = silent,
) -> Mapping[str, int]:
    """Judge the files under `paths` and write one event a line; returns the count of each verdict."""
    listing = list_files(paths, settings.input.codec.type)
    engine = build_engine(settings)
    index, ids = UniqueIndex(settings.gradient.dimension), list[str]()
    verdicts: Counter[str] = Counter()
    done = 0
    for records in _batches(listing.samples(), settings.input.batch.records):
        projected = engine.projector.project(records)
        for each in engine.judge.decide(projected, index, ids.__getitem__):
            if each.vector is not None:
                ids.append(each.record.id)
                index.add(each.vector[np.newaxis])
            verdicts[each.decision.verdict.value] += 1
            write(json.dumps(build_event(each, engine.identity), ensure_ascii=False))
        done += len(records)
        on_progress(done, len(listing))
    return verdicts


def _batches(records: Iterator[Record], size: int) -> Iterator[list[Record]]:
    while batch := list(itertools.islice(records, size)):
        yield batch
