"""Records to evaluate: a random sample of files and their rows, in random order, decoded with their labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dugs_stream.app.engine import Engine, build_engine
from dugs_stream.commands.file_listing import Failures, listing_of
from dugs_stream.config import Settings
from dugs_stream.core.losses.forms import LabelForm, labels_of
from dugs_stream.errors import StateError
from dugs_stream.inputs.decoder import Sample
from dugs_stream.inputs.files import Listing
from dugs_stream.inputs.labels import Label
from dugs_stream.inputs.rows.fields import RowFields
from dugs_stream.pipeline.decode import Outcome
from dugs_stream.records import Reason, Record, Rejection


@dataclass(frozen=True, slots=True)
class DrawnRecords:
    """Records in random order, and what the reader should know of how they were drawn."""

    records: tuple[Record, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Decoded:
    """A sample, the bytes it came from, and its class; None without one."""

    record: Record
    sample: Sample
    label: int | None


def draw_records(
    settings: Settings, paths: Sequence[Path], fields: RowFields, limit: int, seed: int
) -> DrawnRecords:
    """At most `limit` of the records under `paths`, each as likely as any other. Raises as `list_files` does."""
    listing, failures = listing_of(settings, paths, fields), Failures()
    failures.extend(listing.failures)
    generator = np.random.default_rng(seed)
    if len(listing.whole_files) == len(listing):
        found = list(_of_files(listing, limit, generator).samples(failures.add))
    else:
        found = _of_rows(listing.samples(failures.add), limit, generator)
    order = generator.permutation(len(found))
    passed_over = sum(listing.passed_over.values())
    remarks = (
        *([f"{failures.count:,} files or rows could not be read"] if failures.count else []),
        *([f"{passed_over:,} files are not for the codec"] if passed_over else []),
    )
    return DrawnRecords(tuple(found[place] for place in order), remarks)


def _of_files(listing: Listing, limit: int, generator: np.random.Generator) -> Listing:
    """Only the files drawn are read."""
    drawn = generator.permutation(len(listing.files))[:limit]
    return replace(listing, files=tuple(listing.files[place] for place in drawn))


def _of_rows(records: Iterator[Record], limit: int, generator: np.random.Generator) -> list[Record]:
    """A reservoir: how many rows there are, only reading them tells."""
    held: list[Record] = []
    for place, record in enumerate(records):
        if len(held) < limit:
            held.append(record)
        elif (at := int(generator.integers(place + 1))) < limit:
            held[at] = record
    return held


def engine_for(settings: Settings, records: Sequence[Record]) -> Engine:
    """The engine that reads labels if there are any: its own loss would ignore them if it predicts its own.

    A loss of classes becomes `label`, which wants each record's class; if none of the first has one, `pseudo`.
    """
    form = labels_of(settings.gradient.loss).form
    if form not in {LabelForm.CLASS, LabelForm.PREDICTED}:
        return build_engine(settings)
    engine = build_engine(_with_loss(settings, "label"))
    first = engine.projector.decode(records[: settings.input.batch.records])
    if any(isinstance(outcome, Sample) for outcome in first):
        return engine
    lacking = [each for each in first if isinstance(each, Rejection) and each.reason is Reason.LABEL_MISSING]
    return build_engine(_with_loss(settings, "pseudo")) if lacking else engine


def _with_loss(settings: Settings, loss: str) -> Settings:
    gradient = settings.gradient.model_copy(update={"loss": loss})
    return settings.model_copy(update={"gradient": gradient})


class Decoding:
    """Decodes batches of records; those that the daemon would reject are counted by reason and left out."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.reasons: Counter[str] = Counter()
        self._names: dict[int, str | None] = {}
        self._engine = engine
        self._size = settings.input.batch.records

    def batches(self, records: Sequence[Record]) -> Iterator[tuple[int, list[Decoded]]]:
        """How many records are done with each batch, and its samples."""
        with closing(self._engine.decoding):
            for start in range(0, len(records), self._size):
                batch = records[start : start + self._size]
                yield start + len(batch), self.of(batch)

    def of(self, records: Sequence[Record]) -> list[Decoded]:
        """The samples of these records, in order."""
        outcomes = self._engine.projector.decode(records)
        self.reasons.update(each.reason.value for each in outcomes if isinstance(each, Rejection))
        found = [self._decoded(record, each) for record, each in zip(records, outcomes, strict=True)]
        return [each for each in found if each is not None]

    def of_each(self, records: Sequence[Record]) -> list[Decoded | None]:
        """The same with None where a record has no sample, which is not counted."""
        outcomes = self._engine.projector.decode(records)
        return [self._decoded(record, each) for record, each in zip(records, outcomes, strict=True)]

    def _decoded(self, record: Record, outcome: Outcome) -> Decoded | None:
        if not isinstance(outcome, Sample):
            return None
        if not isinstance(outcome.label, Label):
            return Decoded(record, outcome, None)
        self._names[outcome.label.number] = outcome.label.name
        return Decoded(record, outcome, outcome.label.number)

    def name_of(self, label: int) -> str:
        """The class's name, or its number."""
        return self._names.get(label) or str(label)


def rejected(reasons: Mapping[str, int]) -> list[str]:
    """A remark on the records that were left out."""
    if not reasons:
        return []
    why = ", ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items()))
    return [f"{sum(reasons.values()):,} records have no sample and were left out ({why})"]


def require_some(count: int, place: str, reasons: Mapping[str, int]) -> None:
    """Raise StateError if nothing is left to evaluate."""
    if count:
        return
    why = rejected(reasons) or ["there is none"]
    raise StateError(f"{place}: no record can be evaluated: {why[0]}; `dugs scan` says more of each")

