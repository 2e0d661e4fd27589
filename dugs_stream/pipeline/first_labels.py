"""First labels of a process, held against the model: how often it agrees, and whether they can be read at all.

A list of classes in another order than the model's outputs cannot be seen otherwise. Nothing here rejects a record.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import structlog

from dugs_stream.core.gradient_spec import GradientSpec
from dugs_stream.core.losses.outputs import logits_of
from dugs_stream.core.projector import Projection, Projector
from dugs_stream.core.samples import stacked
from dugs_stream.inputs.decoder import Sample
from dugs_stream.inputs.json import parse_document
from dugs_stream.inputs.labels import Labels
from dugs_stream.pipeline.decode import Outcome
from dugs_stream.pipeline.kinds import ProbedKind
from dugs_stream.records import Record, Rejection

_log = structlog.get_logger("dugs")

# Enough to tell a model that knows its classes from chance.
_FIRST = 256


class Agreement(NamedTuple):
    """To how many of the first labelled records the model itself would give their label, of so many classes."""

    right: int = 0
    records: int = 0
    classes: int = 0


class FirstLabels:
    """Looks at the first 256 labels. `labels` reads them; `agreement` is what was found so far."""

    def __init__(self, spec: GradientSpec, labels: Labels) -> None:
        self.agreement = Agreement()
        self._spec = spec
        self._labels = labels
        self._left = _FIRST

    def anew(self) -> FirstLabels:
        """One that has not looked at any."""
        return FirstLabels(self._spec, self._labels)

    def compare(
        self,
        pieces: Sequence[tuple[list[int], Projection]],
        outcomes: Sequence[Outcome],
        probed: ProbedKind,
    ) -> None:
        """Count the samples of these pieces, of one kind, whose label is also the model's own prediction.

        Where their gradients did not show what is predicted, it costs a forward pass more.
        """
        for places, piece in pieces:
            left = _FIRST - self.agreement.records
            if left <= 0 or probed.found.classes is None:
                return
            some = [
                (at, each) for at, place in enumerate(places) if isinstance(each := outcomes[place], Sample)
            ]
            some = some[:left]
            samples = [each for _, each in some]
            predicted = (
                _predictions(samples, probed.projector)
                if piece.predicted is None
                else [int(piece.predicted[at]) for at, _ in some]
            )
            labels = [None if each.label is None else each.label.number for each in samples]
            right = sum(label == own for label, own in zip(labels, predicted, strict=True))
            self.agreement = Agreement(
                self.agreement.right + right, self.agreement.records + len(some), probed.found.classes
            )

    def remark_on(self, record: Record) -> None:
        """Say once that a label cannot be read, where the loss needs none."""
        if not self._left:
            return
        self._left -= 1
        document = parse_document(record.value or b"") if self._labels.needs_document else None
        label = None if isinstance(document, Rejection) else self._labels.read(record, document)
        if isinstance(label, Rejection):
            then = f"loss {self._spec.loss.name} needs no label: the model's own prediction stands in"
            _log.warning("label.ignored", record=record.id, error=label.error, then=then)
            self._left = 0


def _predictions(samples: Sequence[Sample], projector: Projector) -> list[int]:
    """By passes of their own, a tile at a time."""
    found: list[int] = []
    for start in range(0, len(samples), projector.tile):
        some = samples[start : start + projector.tile]
        logits = logits_of(projector.outputs(stacked([each.inputs for each in some])))
        found += logits.argmax(1).tolist()
    return found
