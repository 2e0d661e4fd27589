"""Decoded records of an evaluation: samples with the classes that they carry, whether or not the loss uses them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from dugs_stream.app.engine import Engine, build_engine
from dugs_stream.config import Settings
from dugs_stream.core.losses.forms import LabelForm, labels_of
from dugs_stream.errors import ConfigurationError, Problem
from dugs_stream.inputs.decoder import Sample
from dugs_stream.lab.samples import label_reader
from dugs_stream.records import Record, Rejection

_LABEL_FREE = "energy"
_FITTED_ON = 256
"""Records of the first batch at least, on which scaled gradients are fitted."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A sample, the record it came from, and its class; None without one."""

    record: Record
    sample: Sample
    label: int | None


def engine_for(settings: Settings, records: int) -> Engine:
    """The engine that decodes records with and without labels: a loss of classes gives way to one that needs none.

    Raises ConfigurationError for a loss whose labels are not classes and are required: nothing here can compare them.
    """
    needed = labels_of(settings.gradient.loss)
    if needed.form in {LabelForm.CLASS, LabelForm.PREDICTED}:
        gradient = settings.gradient.model_copy(update={"loss": _LABEL_FREE})
        return build_engine(settings.model_copy(update={"gradient": gradient}), samples=records)
    if needed.are_required:
        problem = Problem(
            "gradient.loss",
            f"{settings.gradient.loss!r} needs labels that are not one class a record, and dugs evaluate compares "
            "gradients of classes, or of losses without labels.",
            "Set it to label, pseudo, energy, entropy or causal_lm for the evaluation (--set gradient.loss=label).",
        )
        raise ConfigurationError([problem])
    return build_engine(settings, samples=records)


class Decoding:
    """Decodes batches of records; those that have no sample are counted by reason and left out."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.reasons: Counter[str] = Counter()
        self._names: dict[int, str | None] = {}
        self._engine = engine
        self._label_of = label_reader(settings)
        self._size = max(settings.input.batch.records, _FITTED_ON)

    def batches(self, records: Sequence[Record]) -> Iterator[tuple[int, list[Decoded]]]:
        """How many records are done with each batch, and its samples."""
        with closing(self._engine.decoding):
            for start in range(0, len(records), self._size):
                batch = list(records[start : start + self._size])
                found = self.of_each(batch, self._engine.decoding.submit(batch).result().outcomes)
                yield start + len(batch), [each for each in found if each is not None]

    def copies(self, records: Sequence[Record]) -> list[Decoded | None]:
        """The samples of records that were made here; None for one that cannot be read."""
        return self.of_each(records, self._engine.projector.decode(records))

    def of_each(self, records: Sequence[Record], outcomes: Sequence[object]) -> list[Decoded | None]:
        """A sample with its class for each record that has one."""
        found: list[Decoded | None] = []
        for record, outcome in zip(records, outcomes, strict=True):
            if isinstance(outcome, Rejection):
                self.reasons[outcome.reason.value] += 1
            found.append(self._decoded(record, outcome) if isinstance(outcome, Sample) else None)
        return found

    def _decoded(self, record: Record, sample: Sample) -> Decoded:
        label = self._label_of(record)
        if label is None:
            return Decoded(record, sample, None)
        self._names[label.number] = label.name
        return Decoded(record, sample, label.number)

    def name_of(self, label: int) -> str:
        """The class's name, or its number."""
        return self._names.get(label) or str(label)


def told(reasons: Mapping[str, int]) -> tuple[str, ...]:
    """A remark on the records that were left out."""
    if not reasons:
        return ()
    why = ", ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items()))
    return (f"{sum(reasons.values()):,} records were rejected ({why}): `dugs scan` says why",)
