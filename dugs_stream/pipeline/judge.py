"""How are the records of a micro-batch judged? Decode, gradients, search: verdicts out, nothing changed.

The daemon and `dugs scan` share this path, so that a file and a stream get the same verdicts. A record
that cannot be judged becomes a rejection; a model that cannot judge anything is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch

from dugs_stream.core.deduplicator import Deduplicator
from dugs_stream.core.gradients.memory import is_out_of_memory
from dugs_stream.core.projector import Projection
from dugs_stream.errors import ModelError
from dugs_stream.inputs.codec import check_shape
from dugs_stream.inputs.decoder import Decoder, Sample
from dugs_stream.inputs.labels import check_range
from dugs_stream.records import Decision, JudgedRecord, LabelSource, Reason, Record, Rejection, Verdict

IdOf = Callable[[int], str]
"""Sequence number of an earlier unique → the id of its record."""

_LONGEST_ERROR = 500
"""Characters of a foreign error kept in a rejection: it travels in a header and in logs."""


class JudgingAbandonedError(Exception):
    """The micro-batch was given up between two tiles because the caller asked for it."""


class OutOfMemoryError(Exception):
    """The micro-batch does not fit into memory. No record is to blame: fewer of them at once may fit."""


@dataclass(frozen=True, slots=True)
class JudgedBatch:
    """A judged micro-batch: what to publish, and what to add to the index once that is committed."""

    judgements: tuple[JudgedRecord, ...]
    projection: Projection
    decisions: tuple[Decision, ...]

    def __iter__(self) -> Iterator[JudgedRecord]:
        """The judgements, in the order of the samples."""
        return iter(self.judgements)


class Judge:
    """Decoder and deduplicator as one step. `predicts_labels` says that the loss makes its own labels."""

    def __init__(
        self,
        decoder: Decoder,
        deduplicator: Deduplicator,
        *,
        clock_ms: Callable[[], int],
        stage: Callable[[str], AbstractContextManager[None]],
        predicts_labels: bool = False,
    ) -> None:
        self.deduplicator = deduplicator
        self._decoder = decoder
        self._clock_ms = clock_ms
        self._stage = stage
        self._predicts_labels = predicts_labels
        self._canary: Sample | None = None

    def judge(
        self, samples: Sequence[Record], id_of: IdOf, should_abandon: Callable[[], bool] = lambda: False
    ) -> JudgedBatch:
        """Verdicts for the samples in their order, against the index as it stands.

        Raises JudgingAbandonedError when `should_abandon` says so between two tiles, OutOfMemoryError when
        memory ran out, ModelError when the fault is the model's and not a record's.
        """
        try:
            return self._judge(samples, id_of, should_abandon)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # PyTorch left it without types
                torch.cuda.empty_cache()  # what the failed batch held must not stand in the next one's way
            raise OutOfMemoryError(_of(error)) from error

    def _judge(
        self, samples: Sequence[Record], id_of: IdOf, should_abandon: Callable[[], bool]
    ) -> JudgedBatch:
        rejections: dict[int, Rejection] = {}
        with self._stage("decode"):
            decoded = self._decode(samples, rejections)
        with self._stage("gradient"):
            self._probe_with_first(decoded, rejections)
            self._reject_labels_out_of_range(decoded, rejections)
            projection, rows = self._project(decoded, rejections, should_abandon)
        with self._stage("search"):
            decisions = self.deduplicator.decide(projection)
        judged = {row: (place, decisions[place]) for place, row in enumerate(rows)}
        judgements = self._explain(samples, decoded, rejections, projection, judged, id_of)
        return JudgedBatch(judgements, projection, tuple(decisions))

    def _decode(self, samples: Sequence[Record], rejections: dict[int, Rejection]) -> dict[int, Sample]:
        decoded: dict[int, Sample] = {}
        for row, sample in enumerate(samples):
            outcome = self._decoder.decode(sample)
            if isinstance(outcome, Rejection):
                rejections[row] = outcome
            else:
                decoded[row] = outcome
        return decoded

    def _probe_with_first(self, decoded: dict[int, Sample], rejections: dict[int, Rejection]) -> None:
        """Where no input shape is known, the first record that the model can take is the probe and sets it."""
        if self.deduplicator.is_probed:
            return
        failures: dict[int, Rejection] = {}
        for row, each in decoded.items():
            try:
                self.deduplicator.probe(each.tensor, each.label)
            except (ModelError, ValueError) as error:
                if is_out_of_memory(error) or (isinstance(error, ModelError) and error.__cause__ is None):
                    raise  # the probe refuses the model as such; with a cause, the model failed on this record
                failures[row] = _model_error(error)
                continue
            self._decoder = self._decoder.expecting(each.tensor.shape)
            break
        if failures and not self.deduplicator.is_probed:
            first = next(iter(failures.values()))
            raise ModelError(
                f"The model failed on all {len(failures)} records of the first micro-batch, so the fault is not one "
                f"record's: {first.error}. Check model.factory, model.kwargs and input.codec (size, mode), then start "
                "again: nothing was committed."
            )
        for row, each in list(decoded.items()):
            rejection = failures.get(row) or check_shape(each.tensor.shape, self._decoder.expected_shape)
            if rejection is not None:
                rejections[row] = rejection
                del decoded[row]

    def _reject_labels_out_of_range(
        self, decoded: dict[int, Sample], rejections: dict[int, Rejection]
    ) -> None:
        """Before any device sees them: an index out of range kills a GPU's context for good."""
        classes = self.deduplicator.classes
        if classes is None or self._predicts_labels:
            return
        for row, each in list(decoded.items()):
            rejection = check_range(each.label, classes)
            if rejection is not None:
                rejections[row] = rejection
                del decoded[row]

    def _project(
        self,
        decoded: dict[int, Sample],
        rejections: dict[int, Rejection],
        should_abandon: Callable[[], bool],
    ) -> tuple[Projection, list[int]]:
        """Project tile by tile; the tile is fixed, so cutting there changes no bit of any vector."""
        rows = list(decoded)
        tile = self.deduplicator.tile
        pieces: list[tuple[Projection, list[int]]] = []
        for start in range(0, len(rows), tile):
            if should_abandon():
                raise JudgingAbandonedError
            pieces += self._project_or_isolate(rows[start : start + tile], decoded, rejections)
        return self._join([piece for piece, _ in pieces]), [row for _, kept in pieces for row in kept]

    def _project_or_isolate(
        self, rows: list[int], decoded: Mapping[int, Sample], rejections: dict[int, Rejection]
    ) -> list[tuple[Projection, list[int]]]:
        """Halve what fails until the guilty record stands alone; that one is rejected, the others go on."""
        try:
            projection = self._project_rows([decoded[row] for row in rows])
        except Exception as error:
            if is_out_of_memory(error):
                raise  # halving within the tile would blame the record that happens to stand alone
            if len(rows) == 1:
                self._blame_model_if_broken(error)
                rejections[rows[0]] = _model_error(error)
                return []
            middle = len(rows) // 2
            return [
                *self._project_or_isolate(rows[:middle], decoded, rejections),
                *self._project_or_isolate(rows[middle:], decoded, rejections),
            ]
        self._canary = self._canary or decoded[rows[0]]
        return [(projection, rows)]

    def _project_rows(self, rows: Sequence[Sample]) -> Projection:
        labels = [row.label for row in rows if row.label is not None]
        # Some without a label: only where the loss needs none, since the decoder rejects them otherwise.
        given = None if self._predicts_labels or len(labels) < len(rows) else labels
        return self.deduplicator.project(torch.stack([row.tensor for row in rows]), given)

    def _blame_model_if_broken(self, error: Exception) -> None:
        """A record that worked before tells a bad record from a broken model or device."""
        if self._canary is None:
            return
        try:
            self._project_rows([self._canary])
        except Exception as broken:
            if is_out_of_memory(broken):
                raise
            raise ModelError(
                f"The model fails on a record that it could judge before ({_of(broken)}), so no "
                "record is to blame. Nothing of this micro-batch was committed; look at the device, then start again."
            ) from error

    def _join(self, pieces: Sequence[Projection]) -> Projection:
        if not pieces:
            dimension = self.deduplicator.dimension
            return Projection(np.zeros((0, dimension), np.float32), np.zeros(0, np.float64), None)
        labels = [piece.labels for piece in pieces if piece.labels is not None]
        return Projection(
            np.concatenate([piece.vectors for piece in pieces]),
            np.concatenate([piece.norms for piece in pieces]),
            np.concatenate(labels) if len(labels) == len(pieces) else None,
        )

    def _explain(
        self,
        samples: Sequence[Record],
        decoded: Mapping[int, Sample],
        rejections: Mapping[int, Rejection],
        projection: Projection,
        judged: Mapping[int, tuple[int, Decision]],
        id_of: IdOf,
    ) -> tuple[JudgedRecord, ...]:
        """Put names to numbers: ids of nearest uniques (also those of this very batch), labels, the time."""
        time_ms, threshold = self._clock_ms(), self.deduplicator.threshold
        fresh: dict[int, str] = {}
        judgements: list[JudgedRecord] = []
        for row, sample in enumerate(samples):
            if row in rejections:
                decision = Decision(Verdict.REJECTED, rejection=rejections[row])
                judgements.append(JudgedRecord(sample, decision, time_ms, threshold))
                continue
            place, decision = judged[row]
            if decision.sequence is not None:
                fresh[decision.sequence] = sample.id
            nearest = decision.nearest
            label, source = self._label(decoded[row], projection, place)
            judgements.append(
                JudgedRecord(
                    sample,
                    decision,
                    time_ms,
                    threshold,
                    label=label,
                    label_name=self._decoder.class_name(label),
                    label_source=source,
                    nearest_id=None if nearest is None else fresh.get(nearest) or id_of(nearest),
                    vector=projection.vectors[place] if decision.verdict is Verdict.UNIQUE else None,
                )
            )
        return tuple(judgements)

    def _label(
        self, row: Sample, projection: Projection, place: int
    ) -> tuple[int | None, LabelSource | None]:
        if self._predicts_labels and projection.labels is not None:
            return int(projection.labels[place]), LabelSource.PREDICTED
        return row.label, None if row.label is None else LabelSource.GIVEN


def _model_error(error: Exception) -> Rejection:
    return Rejection(Reason.MODEL_ERROR, _of(error)[:_LONGEST_ERROR])


def _of(error: BaseException) -> str:
    """What the user's code raised, without what was wrapped around it."""
    original = error.__cause__ or error
    return f"{type(original).__name__}: {original}"
