"""A small real model between records and verdicts, and the records for it."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import numpy as np
import torch
from torch import nn

from dugs_stream.core.gradient_spec import GradientSpec
from dugs_stream.core.index.unique_index import UniqueIndex
from dugs_stream.core.losses.loss import LossFunction
from dugs_stream.inputs.decoder import build_decoder
from dugs_stream.inputs.settings import NpyCodecSettings
from dugs_stream.pipeline.judge import Judge
from dugs_stream.pipeline.project import RecordProjector
from dugs_stream.pipeline.projected import ProjectedBatch
from dugs_stream.records import JudgedRecord, Record, Rejection
from tests.support.models.small import WIDTH, tiny


def record(offset: int, values: np.ndarray, label: str | None = "1") -> Record:
    """An array as an input record."""
    buffer = io.BytesIO()
    np.save(buffer, values)
    headers = () if label is None else (("label", label.encode()),)
    return Record(b"k", buffer.getvalue(), headers, topic="in", partition=0, offset=offset)


def random_records(count: int, seed: int = 0) -> list[Record]:
    """Random arrays with random labels of four classes."""
    generator = np.random.default_rng(seed)
    return [
        record(offset, generator.normal(size=WIDTH).astype(np.float32), str(generator.integers(4)))
        for offset in range(count)
    ]


def projector_of(
    build: Callable[[], nn.Module] = tiny,
    loss: str | LossFunction = "label",
    classes: Sequence[str] | None = ("a", "b", "c", "d"),
) -> RecordProjector:
    """A projector for a model built under a fixed seed, which no example has probed yet."""
    torch.manual_seed(1)
    decoder = build_decoder(
        NpyCodecSettings(),
        label="header:label",
        classes=classes,
        label_is_required=loss == "label",
        max_record_bytes=10_000,
    )
    spec = GradientSpec(build(), 2, loss, dimension=128, seed=0, device="cpu", tile=8)
    return RecordProjector(decoder, spec, lambda _stage: nullcontext())


def projected(
    projector: RecordProjector,
    records: Sequence[Record],
    should_abandon: Callable[[], bool] = lambda: False,
    *,
    model_is_proven: bool = False,
) -> ProjectedBatch:
    """The records decoded and projected in this thread."""
    decoded = projector.decoded(records)
    return projector.project(decoded, should_abandon, model_is_proven=model_is_proven)


def rejection_of(batch: ProjectedBatch, place: int) -> Rejection:
    """Why the record at this place has no vector."""
    outcome = batch.outcomes[place]
    assert isinstance(outcome, Rejection)
    return outcome


def rejected(batch: ProjectedBatch) -> list[int]:
    """The places of the records that have no vector."""
    return [place for place, outcome in enumerate(batch.outcomes) if isinstance(outcome, Rejection)]


def of_any_length() -> nn.Module:
    """A model that takes a row of numbers of any length."""
    return nn.Sequential(
        nn.Unflatten(1, (1, -1)), nn.Conv1d(1, 5, 3), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(5, 4)
    )


class Engine:
    """Projector, judge and index, joined as `dugs scan` joins them."""

    def __init__(self, projector: RecordProjector | None = None) -> None:
        self.projector = projector or projector_of()
        self.index = UniqueIndex(self.projector.spec.dimension)
        self.judge = Judge(0.3, 0.0, "nearest", lambda: 1_000, lambda _stage: nullcontext())
        self.ids: list[str] = []

    def decide(self, records: Sequence[Record]) -> tuple[JudgedRecord, ...]:
        """Verdicts; nothing is changed."""
        batch = projected(self.projector, records, model_is_proven=len(self.index) > 0)
        return self.judge.decide(batch, self.index, self.ids.__getitem__)

    def run(self, records: Sequence[Record], batch: int) -> list[JudgedRecord]:
        """Decide and accept, batch by batch, as the daemon does after each commit."""
        judged: list[JudgedRecord] = []
        for start in range(0, len(records), batch):
            judged += self.decide(records[start : start + batch])
            new = [each for each in judged[start:] if each.vector is not None]
            self.ids += [each.record.id for each in new]
            self.index.add(np.stack([each.vector for each in new]) if new else np.empty((0, 128), np.float32))
        return judged
