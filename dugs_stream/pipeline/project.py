"""Projection of polled records: bytes in, vectors out, or the reason why a record has none.

Decode, then take the gradients tile by tile; a record on which the model fails is isolated and rejected, and a model
that fails on everything is an error. It knows no index and no earlier record: any process with the same model gives
the same vectors, bit for bit.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch

from dugs_stream.core.gradient_spec import GradientSpec
from dugs_stream.core.gradients.layers import GradientPath
from dugs_stream.core.gradients.memory import is_out_of_memory
from dugs_stream.core.probe import Probe
from dugs_stream.core.projector import Projection, Projector, model_precision
from dugs_stream.errors import ModelError
from dugs_stream.inputs.decoder import Decoder, Sample
from dugs_stream.inputs.labels import AnyLabel, Label
from dugs_stream.records import LabelSource, Reason, Record, Rejection, Skip

StageTimer = Callable[[str], AbstractContextManager[None]]
"""Times what runs inside it as this stage of a micro-batch."""

_LONGEST_ERROR = 500
"""Characters of a foreign error kept in a rejection: it travels in a header and in logs."""


class BatchAbandonedError(Exception):
    """The micro-batch was given up between two tiles because the caller asked for it."""


@dataclass(frozen=True, slots=True)
class Projected:
    """A record that has a vector: its row of the batch's projection, and the label that its loss used."""

    row: int
    label: AnyLabel | None
    label_source: LabelSource | None


@dataclass(frozen=True, slots=True)
class ProjectedBatch:
    """A micro-batch as vectors: per record its row and label or its rejection, in the order of the records.

    projection holds (n, k) vectors and (n,) norms of the n records that were not rejected.
    """

    records: tuple[Record, ...]
    outcomes: tuple[Projected | Rejection | Skip, ...]
    projection: Projection


class RecordProjector:
    """Records to vectors, through a decoder and a model. One thread. `found` is what the probe found; None before it.

    If the input shape is known, the model is probed at the start with an example (`probe`); else the first record that
    the model can take is the probe and sets the shape. After that every call gives the same for the same record.
    """

    def __init__(
        self,
        decoder: Decoder,
        spec: GradientSpec,
        stage: StageTimer,
        probed: Callable[[Probe], None] = lambda _found: None,
    ) -> None:
        self.spec = spec
        self._probed = probed
        self._decoder = decoder
        self._stage = stage
        self.found: Probe | None = None
        # These three come with the probe.
        self._projector: Projector
        self._precision: torch.dtype | None
        self._probed_with: Sample

    @property
    def layer_names(self) -> tuple[str, ...]:
        """The chosen layers in the order in which they run; empty before the probe."""
        return () if self.found is None else tuple(layer.name for layer in self.found.layers)

    def layers_by(self, path: GradientPath) -> int:
        """How many of the chosen layers have their gradients computed this way; 0 before the probe."""
        return sum(layer.path == path for layer in (() if self.found is None else self.found.layers))

    @property
    def tile(self) -> int:
        """Samples computed together; cutting a micro-batch at its multiples changes no vector."""
        return self.spec.tile if self.found is None else self.found.tile

    def probe(self, example: Sample) -> None:
        """Look at the model through this sample; expect its shape, and the model's classes, from now on.

        Raises ModelError if the model cannot be used or fails on the sample, ValueError for an empty sample.
        """
        label = None if example.label is None else example.label.tensor
        self.found, self._projector = self.spec.probe(example.tensor, label)
        self._probed(self.found)
        self._precision, self._probed_with = model_precision(self.spec.model), example
        classes = None if self.spec.loss.predicts_labels else self.found.classes
        self._decoder = self._decoder.expecting(example.tensor.shape, classes)

    def project(
        self, records: Sequence[Record], should_abandon: Callable[[], bool] = lambda: False
    ) -> ProjectedBatch:
        """The vectors of the records; changes nothing.

        Raises BatchAbandonedError when `should_abandon` says so between two tiles, ModelError when the fault is the
        model's and not a record's. An error that says that memory ran out passes as it is: no record is to blame.
        """
        if self.found is None:
            self._probe_with_first(records)
        with self._stage("decode"):
            outcomes = [self._decoder.decode(record) for record in records]
        if self.found is None:
            return self._joined(records, outcomes, [])
        with self._stage("gradient"):
            return self._joined(records, outcomes, list(self._gradients(outcomes, should_abandon)))

    @staticmethod
    def release_memory() -> None:
        """Give the GPU back what a failed batch held, so that it does not stand in the next one's way."""
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # PyTorch left it without types
            torch.cuda.empty_cache()

    def _probe_with_first(self, records: Sequence[Record]) -> None:
        """Probe with the first record that the model can take, unless no record can be decoded."""
        failures: list[Rejection] = []
        for record in records:
            sample = self._decoder.decode(record)
            if not isinstance(sample, Sample):
                continue
            try:
                self.probe(sample)
            except (ModelError, ValueError) as error:
                if is_out_of_memory(error) or (isinstance(error, ModelError) and error.__cause__ is None):
                    raise  # the probe refuses the model as such; with a cause, the model failed on this record
                failures.append(_model_error(error))
            else:
                return
        if failures:
            raise ModelError(
                f"The model failed on all {len(failures)} records of the first micro-batch, so the fault is not one "
                f"record's: {failures[0].error}. Check model.factory, model.kwargs and input.codec (size, mode), then "
                "start again: nothing was committed."
            )

    def _gradients(
        self, outcomes: list[Sample | Rejection | Skip], should_abandon: Callable[[], bool]
    ) -> Iterator[Projection]:
        """The samples tile by tile, in order; one on which the model fails becomes a rejection in `outcomes`.

        The tile is fixed, so cutting there changes no bit of any vector.
        """
        places = [place for place, outcome in enumerate(outcomes) if isinstance(outcome, Sample)]
        for start in range(0, len(places), self.tile):
            if should_abandon():
                raise BatchAbandonedError
            yield from self._isolating(places[start : start + self.tile], outcomes)

    def _isolating(self, places: list[int], outcomes: list[Sample | Rejection | Skip]) -> list[Projection]:
        """Halve what fails until the guilty record stands alone; that one is rejected, the others go on."""
        try:
            return [self._project([outcomes[place] for place in places])]
        except Exception as error:
            if is_out_of_memory(error):
                raise  # halving within the tile would blame the record that happens to stand alone
            if len(places) == 1:
                self._require_intact(error)
                outcomes[places[0]] = _model_error(error)
                return []
            middle = len(places) // 2
            return [*self._isolating(places[:middle], outcomes), *self._isolating(places[middle:], outcomes)]

    def _project(self, samples: Sequence[Sample | Rejection | Skip]) -> Projection:
        inputs = torch.stack([sample.tensor for sample in samples if isinstance(sample, Sample)])
        if inputs.is_floating_point() and self._precision is not None:
            inputs = inputs.to(self._precision)
        labels = [
            each.label.tensor for each in samples if isinstance(each, Sample) and each.label is not None
        ]
        # Some without a label: only if the loss needs none, since the decoder rejects them otherwise.
        is_given = not self.spec.loss.predicts_labels and len(labels) == len(samples)
        given = torch.stack(labels) if is_given else None
        return self._projector.project(inputs, given)

    def _require_intact(self, error: Exception) -> None:
        """The sample that the model was probed with tells a bad record from a broken model or device."""
        try:
            self._project([self._probed_with])
        except Exception as broken:
            if is_out_of_memory(broken):
                raise
            raise ModelError(
                f"The model fails on the sample that it was probed with ({what_failed(broken)}), so no record is to blame. "
                "Nothing of this micro-batch was committed; look at the device, then start again."
            ) from error

    def _joined(
        self,
        records: Sequence[Record],
        outcomes: Sequence[Sample | Rejection | Skip],
        pieces: Sequence[Projection],
    ) -> ProjectedBatch:
        """One projection of the pieces, and each sample's row of it."""
        labels = [p.labels for p in pieces if p.labels is not None and p.labels.ndim == 1]
        whole = Projection(
            np.concatenate([np.zeros((0, self.spec.dimension), np.float32), *(p.vectors for p in pieces)]),
            np.concatenate([np.zeros(0, np.float64), *(p.norms for p in pieces)]),
            np.concatenate(labels) if labels and len(labels) == len(pieces) else None,
        )
        rows = itertools.count()
        projected = tuple(
            self._projected(outcome, next(rows), whole) if isinstance(outcome, Sample) else outcome
            for outcome in outcomes
        )
        return ProjectedBatch(tuple(records), projected, whole)

    def _projected(self, sample: Sample, row: int, projection: Projection) -> Projected:
        if self.spec.loss.predicts_labels and projection.labels is not None:
            number = int(projection.labels[row])
            label = Label(number, self._decoder.labels.name(number))
            return Projected(row, label, LabelSource.PREDICTED)
        return Projected(row, sample.label, None if sample.label is None else LabelSource.GIVEN)


def _model_error(error: Exception) -> Rejection:
    return Rejection(Reason.MODEL_ERROR, what_failed(error)[:_LONGEST_ERROR])


def what_failed(error: BaseException) -> str:
    """What the user's code raised, without what was wrapped around it."""
    original = error.__cause__ or error
    return f"{type(original).__name__}: {original}"
