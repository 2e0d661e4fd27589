"""`dugs scan`: the daemon's decisions over files, in memory, without a log and without a state folder."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dugs_stream.app.engine import Engine, build_engine, index_device
from dugs_stream.app.target import set_target
from dugs_stream.commands.file_listing import Failures, listing_of, missing_classes
from dugs_stream.commands.progress import Progress, silent
from dugs_stream.commands.threshold_table import ThresholdTable
from dugs_stream.config import Settings
from dugs_stream.core.gradients.memory import is_out_of_memory
from dugs_stream.core.index.unique_index import UniqueIndex
from dugs_stream.errors import ModelError
from dugs_stream.inputs.rows.fields import RowFields
from dugs_stream.log.port import Stop
from dugs_stream.outputs.event import build_event
from dugs_stream.pipeline.decode import DecodedBatch, DecodePool, PendingBatch
from dugs_stream.pipeline.projected import Projected, ProjectedBatch
from dugs_stream.pipeline.rejections import RefusalWords, RejectionGuard
from dugs_stream.pipeline.target import Target
from dugs_stream.records import Reason, Record


@dataclass(frozen=True, slots=True)
class Scanned:
    """What a scan came to.

    verdicts     how often each was given
    reasons      how often each of them was why a record was rejected
    passed_over  how many files of each ending are not for the codec
    failures     files, folders and rows that could not be read; the others were judged
    cut          how many texts were longer than what is read of one
    unclassed    that files have no class, if so
    target       what values are about, if there is one
    is_cut_short whether `stop` left records out
    table        what other thresholds would have kept
    """

    verdicts: Mapping[str, int]
    reasons: Mapping[str, int]
    passed_over: Mapping[str, int]
    failures: Failures
    table: ThresholdTable
    cut: int = 0
    unclassed: str | None = None
    target: Target | None = None
    is_cut_short: bool = False


Vector = NDArray[np.float32] | None
"""Of a record (k,); None for one without a gradient."""


def _ignore(_vector: Any, /) -> None:
    """Nobody asked for vectors."""


def scan(
    settings: Settings,
    paths: Sequence[Path],
    write: Callable[[str], None],
    *,
    fields: RowFields | None = None,
    on_progress: Progress = silent,
    on_unique: Callable[[NDArray[np.float32]], None] = _ignore,
    on_vector: Callable[[Vector], None] = _ignore,
    stop: Stop = lambda: False,
) -> Scanned:
    """Judge the files under `paths` and their rows, and write one event a line.

    on_unique  hears the vector (k,) of each unique, before its event is written
    on_vector  hears that of each record, or None, before its event is written
    stop       asked after each batch: the rest is left out
    """
    listing, failures = listing_of(settings, paths, fields), Failures()
    failures.extend(listing.failures)
    total = listing.count()
    engine = build_engine(settings, samples=total)
    set_target(settings, engine, fields=fields)
    index, ids = _index_for(settings, engine), list[str]()
    verdicts, reasons = Counter[str](), Counter[str]()
    unclassed = missing_classes(settings, listing)
    guard = RejectionGuard(may_reject_all=settings.input.may_reject_all, words=_words(unclassed))
    done, cut, failure, is_cut_short = 0, 0, "", False
    table = ThresholdTable(settings.selection.threshold)
    batches = _batches(listing.samples(failures.add), settings.input.batch.records)
    for decoded in _decoded(batches, engine.decoding):
        projected = engine.projector.project(decoded, model_is_proven=len(index) > 0, keeps_samples=False)
        judged = engine.judge.decide(projected, index, ids.__getitem__)
        guard.watch(judged)
        for each, vector in zip(judged, _vectors(projected), strict=True):
            table.take(each.decision, vector)
            on_vector(vector)
            rejection = each.decision.rejection
            if rejection is not None:
                reasons[rejection.reason.value] += 1
                if rejection.reason is Reason.MODEL_ERROR:
                    failure = failure or rejection.error
            if each.vector is not None:
                ids.append(each.record.id)
                index.add(each.vector[np.newaxis])
                on_unique(each.vector)
            verdicts[each.decision.verdict.value] += 1
            cut += each.is_cut
            write(json.dumps(build_event(each, engine.identity), ensure_ascii=False))
        done += len(decoded.records)
        on_progress(done, total)
        if stop():
            is_cut_short = done != total
            break
    if failure and engine.projector.found is None:
        raise ModelError(
            f"The model failed on each of the {done} files that could be read, so the fault is not one file's: {failure}. "
            "Check model.factory, model.kwargs and input.codec (size, mode)."
        )
    return Scanned(
        verdicts,
        reasons,
        listing.passed_over,
        failures,
        table,
        cut,
        unclassed,
        engine.judge.target,
        is_cut_short,
    )


def _vectors(projected: ProjectedBatch) -> Iterator[Vector]:
    """That of each record of a micro-batch, in order."""
    for outcome in projected.outcomes:
        row = projected.projection.vectors[outcome.row] if isinstance(outcome, Projected) else None
        yield None if row is None or not row.any() else row


def _index_for(settings: Settings, engine: Engine) -> UniqueIndex:
    device = index_device(settings, engine.projector.spec.device)
    return UniqueIndex(settings.gradient.dimension, device=device)


def _words(unclassed: str | None) -> RefusalWords:
    """A refusal in the words of files: nothing was to be committed, and no topic takes what is rejected."""
    insist = (
        "If the files are bad indeed, add --set input.may_reject_all=true, and each is a line of its own."
    )
    return RefusalWords(
        source="the files",
        name_of=lambda record: repr((record.key or b"").decode("utf-8", "backslashreplace")),
        empty="the files, which are empty",
        then=insist if unclassed is None else f"{unclassed[0].upper()}{unclassed[1:]}. {insist}",
    )


def _decoded(batches: Iterator[list[Record]], decoding: DecodePool) -> Iterator[DecodedBatch]:
    """Each batch, while the next one is being read and decoded; the pool is closed behind the last."""
    with closing(decoding):
        pending: PendingBatch | None = None
        for batch in batches:
            following = decoding.submit(batch)
            if pending is not None:
                yield from _fitting(pending, decoding)
            pending = following
        if pending is not None:
            yield from _fitting(pending, decoding)


def _fitting(pending: PendingBatch, decoding: DecodePool) -> Iterator[DecodedBatch]:
    """The batch; if its decoding runs out of memory, smaller ones, down to the record that alone takes too much.

    That one is rejected by the pool, as in a daemon, whose next poll brings fewer records.
    """
    records = pending.records
    try:
        found = pending.result()
    except (MemoryError, RuntimeError) as error:  # PyTorch has it as either
        if not is_out_of_memory(error):
            raise
    else:
        yield found
        return
    middle = len(records) // 2
    for half in (records[:middle], records[middle:]):
        yield from _fitting(decoding.submit(half), decoding)


def _batches(records: Iterator[Record], size: int) -> Iterator[list[Record]]:
    while batch := list(itertools.islice(records, size)):
        yield batch
