"""Sample of a user's data as vectors: the projected gradients of drawn records, with labels and how to show them.

Studies that look at all records, and not only at uniques, read them here.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dugs_stream.app.engine import Engine, build_engine
from dugs_stream.app.web import Shown, shown_as
from dugs_stream.config import Settings
from dugs_stream.errors import StreamRejectedError
from dugs_stream.inputs.classes import read_classes
from dugs_stream.inputs.json import parse_document
from dugs_stream.inputs.labels import Label, Labels
from dugs_stream.inputs.settings import parse_label_place
from dugs_stream.lab.clusters.uniques import Labels as LabelColumn
from dugs_stream.lab.clusters.uniques import labels_of
from dugs_stream.lab.drawn_records import DrawnRecords, Source, draw_records
from dugs_stream.lab.listener import Listener
from dugs_stream.ops.gallery.thumbnails import Thumbnail, excerpt, shrink
from dugs_stream.pipeline.decode import BatchAbandonedError
from dugs_stream.pipeline.projected import Projected, ProjectedBatch
from dugs_stream.records import LabelSource, Record, Rejection


@dataclass(frozen=True, slots=True)
class ProjectedSample:
    """The records of a sample that have a gradient with a direction, n of them, and their vectors.

    vectors      (n, k) float32 unit rows
    norms        (n,) float64 of the projected gradients
    labels       those that the records carry, whether or not the loss uses them; else the model's own
    rejected     how many records were rejected, by reason
    no_gradient  how many have a gradient without a direction, or below selection.min_gradient_norm
    rate         records a second, decoding included, the first micro-batch and its probe left out if there are more
    """

    drawn: DrawnRecords
    engine: Engine
    records: tuple[Record, ...]
    vectors: NDArray[np.float32]
    norms: NDArray[np.float64]
    labels: LabelColumn
    rejected: Mapping[str, int]
    no_gradient: int
    skipped: int
    rate: float
    seconds: float
    shown: Shown
    remarks: tuple[str, ...]
    interrupted: str | None

    def __len__(self) -> int:
        """How many records have a vector."""
        return len(self.records)

    @property
    def ids(self) -> tuple[str, ...]:
        """The id of each record in events."""
        return tuple(record.id for record in self.records)

    @property
    def keys(self) -> tuple[str | None, ...]:
        """The key of each record as text: of a file its path."""
        return tuple(
            None if each.key is None else each.key.decode("utf-8", "backslashreplace")
            for each in self.records
        )

    def thumbnails(self, rows: Sequence[int]) -> dict[int, Thumbnail]:
        """Pictures or texts of some rows, by row; those without one are missing."""
        found = {row: thumbnail_of(self.records[row].value or b"", self.shown) for row in rows}
        return {row: thumbnail for row, thumbnail in found.items() if thumbnail is not None}


def read_sample(settings: Settings, source: Source, listener: Listener) -> ProjectedSample:
    """Draw records and project them; both as below."""
    return project_sample(settings, draw_records(settings, source, listener), listener)


def project_sample(
    settings: Settings, drawn: DrawnRecords, listener: Listener, engine: Engine | None = None
) -> ProjectedSample:
    """The vectors of drawn records as the daemon would compute them. An interrupt leaves those of whole micro-batches.

    The first one is always whole, later ones are given up between two tiles.

    engine  one that was built for these settings, and stays open; without it one is built and closed

    Raises as `build_engine` does, ModelError if the model fails, and StreamRejectedError if no record has a gradient with
    a direction, with the most frequent reason.
    """
    if engine is None:
        engine = build_engine(settings, samples=len(drawn.records))
        with closing(engine.decoding):
            return project_sample(settings, drawn, listener, engine)
    listener.stage(f"Projecting the gradients of {len(drawn.records):,} records")
    rows = _Rows(label_reader(settings), settings.selection.min_gradient_norm)
    started, after_first, first = time.perf_counter(), 0.0, 0
    done = 0
    for batch in _batches(drawn.records, settings.input.batch.records):
        decoded = engine.decoding.submit(batch).result()
        should_abandon = listener.wants_stop if rows.records else _never
        try:
            rows.take(
                engine.projector.project(
                    decoded, should_abandon, model_is_proven=done > 0 and bool(rows.records)
                )
            )
        except BatchAbandonedError:
            break
        done += len(batch)
        listener.progress(done, len(drawn.records))
        if not after_first:
            after_first, first = time.perf_counter(), len(batch)
        if listener.wants_stop():
            break
    ended = time.perf_counter()
    if not rows.records:
        raise StreamRejectedError(f"No record of {drawn.place} has a gradient to study. {rows.why_none}")
    counted, span = (done - first, ended - after_first) if done > first else (done, ended - started)
    was_cut = done < len(drawn.records)
    cut = f"projecting the sample: {done:,} of {len(drawn.records):,} records were projected"
    return ProjectedSample(
        drawn,
        engine,
        tuple(rows.records),
        np.concatenate(rows.vectors),
        np.concatenate(rows.norms),
        labels_of(rows.labels),
        rows.rejected,
        rows.no_gradient,
        rows.skipped,
        counted / max(span, 1e-9),
        ended - started,
        shown_as(settings),
        (*drawn.remarks, *rows.remarks),
        cut if was_cut else drawn.interrupted,
    )


def _never() -> bool:
    """Nobody asks to stop."""
    return False


class _Rows:
    """The records with a direction, as they come, and counts of the others."""

    def __init__(self, label_of: Callable[[Record], Label | None], least_norm: float) -> None:
        self.records: list[Record] = []
        self.vectors: list[NDArray[np.float32]] = []
        self.norms: list[NDArray[np.float64]] = []
        self.labels: list[Mapping[str, Any]] = []
        self.rejected: Counter[str] = Counter()
        self.no_gradient = self.skipped = 0
        self._cut = 0
        self._label_of = label_of
        self._least_norm = least_norm
        self._first_error = ""

    def take(self, batch: ProjectedBatch) -> None:
        """Take in a micro-batch; its outcomes are those of `pipeline.judge`."""
        vectors, norms = batch.projection.vectors, batch.projection.norms
        kept: list[int] = []
        for record, outcome in zip(batch.records, batch.outcomes, strict=True):
            if isinstance(outcome, Rejection):
                self.rejected[outcome.reason.value] += 1
                self._first_error = self._first_error or f"{record.id}: {outcome.error}"
            elif not isinstance(outcome, Projected):
                self.skipped += 1
            elif not np.isfinite(norms[outcome.row]):
                self.rejected["not_finite"] += 1
            elif norms[outcome.row] < self._least_norm or not vectors[outcome.row].any():
                self.no_gradient += 1
            else:
                kept.append(outcome.row)
                self.records.append(record)
                self.labels.append(self._label(record, outcome))
                self._cut += outcome.is_cut
        self.vectors.append(vectors[kept])
        self.norms.append(norms[kept])

    def _label(self, record: Record, outcome: Projected) -> Mapping[str, Any]:
        """As an event has it. The record's own goes first, also where the loss predicts its labels."""
        label, source = self._label_of(record), LabelSource.GIVEN
        if label is None and isinstance(outcome.label, Label) and outcome.label_source is not None:
            label, source = outcome.label, outcome.label_source
        if label is None:
            return {"label": None, "label_source": None}
        named = {} if label.name is None else {"label_name": label.name}
        return {"label": label.number, "label_source": source.value, **named}

    @property
    def why_none(self) -> str:
        """Of a sample without any."""
        counts = [f"{count:,} {reason}" for reason, count in self.rejected.most_common()]
        counts += [f"{self.no_gradient:,} no_gradient"] if self.no_gradient else []
        counts += [f"{self.skipped:,} skipped"] if self.skipped else []
        first = f" The first one: {self._first_error}." if self._first_error else ""
        return f"Found: {', '.join(counts)}.{first}"

    @property
    def remarks(self) -> tuple[str, ...]:
        """What was not projected."""
        rejected = self.rejected.total()
        why = ", ".join(f"{count:,} {reason}" for reason, count in self.rejected.most_common())
        return (
            *([f"{rejected:,} records were rejected ({why})"] if rejected else []),
            *([f"{self.no_gradient:,} records have no gradient to speak of"] if self.no_gradient else []),
            *([f"{self._cut:,} texts are longer than what is read of one"] if self._cut else []),
        )


def label_reader(settings: Settings) -> Callable[[Record], Label | None]:
    """The class that a record carries; None without one. Nothing about it is an error here."""
    classes = read_classes(settings.input.classes)
    labels = Labels(
        parse_label_place(settings.input.label),
        None if classes is None else tuple(classes),
        is_required=False,
        is_for_show=True,
    )

    def read(record: Record) -> Label | None:
        if settings.input.label_type != "class":
            return None
        document = parse_document(record.value or b"") if labels.needs_document else None
        found = None if isinstance(document, Rejection) else labels.read(record, document)
        return found if isinstance(found, Label) else None

    return read


def _batches(records: Sequence[Record], size: int) -> Iterator[list[Record]]:
    remaining = iter(records)
    while batch := list(itertools.islice(remaining, size)):
        yield batch


def thumbnail_of(value: bytes, shown: Shown) -> Thumbnail | None:
    """The picture or text of a record's value; None if it is neither."""
    if shown.text_of is None:
        return shrink(value, shown.formats)
    text = shown.text_of(value)
    return None if text is None else excerpt(text)
