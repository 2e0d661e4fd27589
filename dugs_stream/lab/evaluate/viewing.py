"""Viewing of records: one pass over the drawn records, their copies and their wrong labels included."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from dugs_stream.config import Settings
from dugs_stream.errors import ModelError, StreamRejectedError
from dugs_stream.lab.drawn_records import Source, draw_records
from dugs_stream.lab.evaluate.copies import Copier, copiers_of
from dugs_stream.lab.evaluate.evaluate import Viewed
from dugs_stream.lab.evaluate.plan import Gradient, Plan
from dugs_stream.lab.evaluate.records import Decoded, Decoding, engine_for, told
from dugs_stream.lab.evaluate.streams import wrong_labels
from dugs_stream.lab.evaluate.views import Kind, Row, Viewer, Views, without_not_finite
from dugs_stream.lab.listener import Listener
from dugs_stream.records import Record

_MOST_COPIED = 200
"""Records of which copies are made: of each way so many are enough to tell 99 % from 97 %."""
_COPIED_SHARE = 0.5


def view_records(settings: Settings, source: Source, plan: Plan, listener: Listener) -> Viewed:
    """Draw, decode and view records. An interrupt leaves those viewed by then; KeyboardInterrupt if there is none.

    Raises as `draw_records` and `build_engine` do, ModelError if the model fails, and StreamRejectedError if no record can be used.
    """
    drawn = draw_records(settings, source, listener)
    # Drawn files keep their order, which is that of their folders, and so of their classes.
    generator = np.random.default_rng(plan.seed)
    distinct = _distinct(drawn.records)
    records = [distinct[place] for place in generator.permutation(len(distinct))]
    engine = engine_for(settings, len(records))
    configured = _configured_gradient(settings, engine.projector.spec.loss.name)
    # `configured` and the number that the settings name are one choice, and one row.
    layers = dict.fromkeys(configured.layers if each == "configured" else each for each in plan.layers)
    plan = replace(plan, configured=configured, layers=tuple(layers))
    decoding = Decoding(engine, settings)
    copiers = copiers_of(settings)
    rows = _Rows(copiers, min(_MOST_COPIED, int(len(records) * _COPIED_SHARE)), plan, decoding, generator)
    viewer: Viewer | None = None
    listener.stage(f"Viewing {len(records):,} records")
    done, known, is_cut = 0, 0, False
    for seen, batch in decoding.batches(records):
        if viewer is None and batch:
            # One that happens to have no label says nothing of the others.
            first = next((each for each in batch if each.label is not None), batch[0])
            viewer = Viewer(
                engine.projector.spec, plan, Row(first.sample.inputs, first.label, 0, Kind.RECORD)
            )
        if viewer is not None:
            is_cut = not viewer.add(rows.of(batch, viewer), listener.wants_stop)
        if is_cut:
            break
        done, known = seen, rows.count
        listener.progress(done, len(records))
        if listener.wants_stop():
            break
    if viewer is None or not rows.count:
        raise StreamRejectedError(
            f"No record of {drawn.place} can be evaluated: "
            f"{(told(decoding.reasons) or ('none has a label that the model knows',))[0]}."
        )
    views = viewer.views(tuple(copiers))
    failed = viewer.failures
    kept = len(views.rows(Kind.RECORD)) + len(failed)
    if failed and kept == len(failed):
        raise ModelError(f"The model failed on each record of {drawn.place}: {failed[0]}")
    if not kept:
        raise KeyboardInterrupt("before a record was viewed, so there is nothing to tell")
    done += kept - known
    views, not_finite = without_not_finite(views)
    if not len(views.labels):
        raise StreamRejectedError(
            f"No record of {drawn.place} can be evaluated: the model's features or outputs are not finite for any of them."
        )
    cut = f"viewing the records: {done:,} of {len(records):,} were viewed" if done < len(records) else None
    return Viewed(
        drawn.place,
        views,
        decoding.name_of,
        settings.gradient.dimension,
        settings.selection.threshold,
        configured.title,
        (
            *_on_configured(configured, views),
            *drawn.remarks,
            *_on_repeats(len(drawn.records) - len(distinct)),
            *told(decoding.reasons),
            *rows.remarks,
            *_on_failures(failed),
            *_on_not_finite(not_finite),
        ),
        cut or drawn.interrupted,
    )


def _configured_gradient(settings: Settings, name_of_own: str) -> Gradient:
    """What τ was set for; a loss of the user's goes by the name of its function."""
    loss, layers = settings.gradient.loss, settings.gradient.layers
    return Gradient(
        name_of_own if ":" in loss else loss,
        "configured" if layers.last is None else layers.last,
        temperature=settings.gradient.temperature,
    )


def _on_configured(configured: Gradient, views: Views) -> tuple[str, ...]:
    """That the rule of the settings has no row, which is what one looks for first."""
    if configured in views.gradients:
        return ()
    if configured.loss == "label" and not views.has_labels:
        return ("gradient.loss is label and no record has one, so the rule as configured cannot be told",)
    return (f"the rule as configured ({configured.title}) is not compared: add its loss to --losses",)


def _distinct(records: Sequence[Record]) -> list[Record]:
    """The first of each value: a record that repeats another is a copy before any is made here."""
    found = {hashlib.sha256(each.value or b"").digest(): each for each in reversed(records)}
    return list(reversed(found.values()))


def _on_repeats(count: int) -> tuple[str, ...]:
    return (f"{count:,} records repeat another one byte for byte and were left out",) if count else ()


def _on_failures(failed: Sequence[str]) -> tuple[str, ...]:
    return (
        (f"the model failed on {len(failed):,} records, which were left out: {failed[0]}",) if failed else ()
    )


def _on_not_finite(count: int) -> tuple[str, ...]:
    return (
        (f"{count:,} records have features or outputs that are not finite and were left out",)
        if count
        else ()
    )


class _Rows:
    """Makes the rows of each batch: the records, wrong labels for some, copies of the first."""

    def __init__(
        self,
        copiers: Mapping[str, Copier],
        copied: int,
        plan: Plan,
        decoding: Decoding,
        generator: np.random.Generator,
    ) -> None:
        self.count = 0
        self._unlabelled = self._unknown = 0
        self._copiers, self._copied = copiers, copied
        self._plan, self._decoding, self._generator = plan, decoding, generator
        self._rows = 0

    @property
    def remarks(self) -> tuple[str, ...]:
        """What was left out."""
        return (
            *([f"{self._unlabelled:,} records have no label and were left out"] if self._unlabelled else []),
            *(
                [f"{self._unknown:,} records have a label that the model does not know"]
                if self._unknown
                else []
            ),
        )

    def of(self, batch: Sequence[Decoded], viewer: Viewer) -> list[Row]:
        """The batch's rows; origins are rows counted from the first batch on."""
        known = self._known(batch, viewer)
        rows: list[Row] = []
        origins = {}
        for each in known:
            origins[each.record.id] = self._rows + len(rows)
            rows.append(Row(each.sample.inputs, each.label, self._rows + len(rows), Kind.RECORD))
        rows += self._with_wrong_labels(known, origins, viewer.classes)
        rows += self._copies(known[: max(0, self._copied - self.count)], origins)
        self.count += len(known)
        self._rows += len(rows)
        return rows

    def _known(self, batch: Sequence[Decoded], viewer: Viewer) -> list[Decoded]:
        if not viewer.wants_labels:
            return [replace(each, label=None) for each in batch]
        labelled = [each for each in batch if each.label is not None]
        known = [
            each for each in labelled if viewer.classes is None or 0 <= (each.label or 0) < viewer.classes
        ]
        self._unlabelled += len(batch) - len(labelled)
        self._unknown += len(labelled) - len(known)
        return known

    def _with_wrong_labels(
        self, known: Sequence[Decoded], origins: Mapping[str, int], classes: int | None
    ) -> list[Row]:
        if classes is None:
            return []
        wrong = wrong_labels(
            [each.label for each in known], range(classes), self._plan.wrong_share, self._generator
        )
        return [
            Row(each.sample.inputs, label, origins[each.record.id], Kind.WRONG_LABEL)
            for each, label in zip(known, wrong, strict=True)
            if label is not None
        ]

    def _copies(self, known: Sequence[Decoded], origins: Mapping[str, int]) -> list[Row]:
        rows: list[Row] = []
        for way, copier in enumerate(self._copiers.values()):
            made = [(each, copier(each.record.value or b"", self._generator)) for each in known]
            copied = [(each, replace(each.record, value=value)) for each, value in made if value is not None]
            decoded = self._decoding.copies([record for _, record in copied])
            rows += [
                Row(copy.sample.inputs, each.label, origins[each.record.id], Kind.COPY, way)
                for (each, _), copy in zip(copied, decoded, strict=True)
                if copy is not None
            ]
        return rows
