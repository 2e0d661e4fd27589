"""Bytes in, vectors out: the half of the pipeline that needs no index, on a small real model."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from dugs_stream.core.gradient_spec import GradientSpec
from dugs_stream.core.gradients.memory import is_out_of_memory
from dugs_stream.errors import ModelError
from dugs_stream.inputs.decoder import Sample, build_decoder
from dugs_stream.inputs.labels import Label
from dugs_stream.inputs.settings import CustomCodecSettings, NpyCodecSettings
from dugs_stream.pipeline.project import BatchAbandonedError, Projected, ProjectedBatch, RecordProjector
from dugs_stream.records import Reason, Record, Rejection, Skip
from tests.support.models.small import WIDTH, breaks_on_large, mixes_samples, tiny
from tests.support.records.own_code import squared_error
from tests.unit.pipeline.engine import projector_of, random_records, record


def rejection_of(batch: ProjectedBatch, place: int) -> Rejection:
    """Why the record at this place has no vector."""
    outcome = batch.outcomes[place]
    assert isinstance(outcome, Rejection)
    return outcome


def rejected(batch: ProjectedBatch) -> list[int]:
    """The places of the records that have no vector."""
    return [place for place, outcome in enumerate(batch.outcomes) if isinstance(outcome, Rejection)]


def breaking(offset: int) -> Record:
    """A record on which `breaks_on_large` fails."""
    return record(offset, np.full(WIDTH, 5000.0, np.float32))


@pytest.mark.parametrize("is_probed", [True, False], ids=["probed", "first batch"])
@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (replace(record(3, np.zeros(1)), value=None), Reason.EMPTY),
        (replace(record(3, np.zeros(1)), value=b"not an array"), Reason.UNDECODABLE),
        (replace(record(3, np.zeros(1)), value=b"x" * 20_000), Reason.TOO_LARGE),
        (record(3, np.zeros(WIDTH + 1, np.float32)), Reason.WRONG_SHAPE),
        (record(3, np.full(WIDTH, np.nan, np.float32)), Reason.NOT_FINITE),
        (record(3, np.ones(WIDTH, np.float32), None), Reason.LABEL_MISSING),
        (record(3, np.ones(WIDTH, np.float32), "z"), Reason.LABEL_UNKNOWN),
        (record(3, np.ones(WIDTH, np.float32), "4"), Reason.LABEL_OUT_OF_RANGE),
        (record(3, np.ones(WIDTH, np.float32), "1000000000"), Reason.LABEL_OUT_OF_RANGE),
    ],
)
def test_bad_record_is_rejected_and_the_others_are_projected_as_without_it(
    bad: Record, reason: Reason, is_probed: bool
) -> None:
    """For the same reason in the first batch as in any other; it takes no bit from its neighbours' vectors."""
    good = random_records(9)
    projector, alone = projector_of(classes=None), projector_of(classes=None).project(good)
    if is_probed:
        projector.probe(Sample(torch.rand(WIDTH), Label(0, None)))

    batch = projector.project([*good[:3], bad, *good[3:]])

    assert (rejected(batch), rejection_of(batch, 3).reason) == ([3], reason)
    assert np.array_equal(batch.projection.vectors, alone.projection.vectors)
    assert [each.row for each in batch.outcomes if isinstance(each, Projected)] == list(range(9))


def test_record_that_breaks_the_model_is_isolated() -> None:
    """The batch is halved until the guilty record stands alone; the others get their vectors."""
    records = random_records(20)
    records[11] = breaking(11)

    batch = projector_of(breaks_on_large).project(records)

    assert rejected(batch) == [11]
    assert rejection_of(batch, 11) == Rejection(Reason.MODEL_ERROR, "RuntimeError: a number above 1000.0")


def test_bad_first_record_does_not_become_the_probe() -> None:
    """If no shape is configured, the first record that the model can take sets it."""
    batch = projector_of(breaks_on_large).project([breaking(0), *random_records(4)[1:]])

    assert rejected(batch) == [0]
    assert rejection_of(batch, 0).reason is Reason.MODEL_ERROR


def test_first_record_sets_the_shape_for_the_rest_of_its_batch() -> None:
    """A record of another shape beside the probe is rejected, and does not stop the stream."""
    records = [*random_records(2), record(2, np.ones((2, WIDTH), np.float32))]

    batch = projector_of(breaks_on_large).project(records)

    assert rejection_of(batch, 2).reason is Reason.WRONG_SHAPE


def test_batch_without_a_record_that_decodes_leaves_the_probe_to_the_next() -> None:
    """Nothing of it says what the model takes."""
    projector = projector_of()

    batch = projector.project([Record(None, None, topic="in", partition=0, offset=0)])

    assert rejected(batch) == [0]
    assert projector.found is None
    assert rejected(projector.project(random_records(3))) == []


def test_model_that_fails_on_a_whole_first_batch_is_an_error() -> None:
    """A broken model must not send the whole stream to the dead letters."""
    with pytest.raises(ModelError, match="failed on all 5 records of the first micro-batch"):
        projector_of(breaks_on_large).project([breaking(offset) for offset in range(5)])


def test_model_that_breaks_later_is_an_error_and_not_a_dead_letter() -> None:
    """The sample that it was probed with tells a broken device from a bad record."""
    projector = projector_of(breaks_on_large)
    projector.project(random_records(4))
    projector.spec.model.limit = -1e9  # type: ignore[assignment]

    with pytest.raises(ModelError, match="fails on the sample that it was probed with"):
        projector.project(random_records(4, seed=1))


def test_model_that_mixes_samples_is_refused_by_the_layers_name() -> None:
    """The first record is the probe, and the probe compares company with company."""
    with pytest.raises(ModelError, match=r"\b1\b"):
        projector_of(mixes_samples).project(random_records(3))


def test_abandoning_stops_between_two_tiles() -> None:
    """Told to stop, projecting ends within one tile."""
    asked: list[None] = []

    def after_two_tiles() -> bool:
        asked.append(None)
        return len(asked) > 2

    with pytest.raises(BatchAbandonedError):
        projector_of().project(random_records(64), after_two_tiles)

    assert len(asked) == 3


def test_labels_are_ignored_where_the_model_predicts_them() -> None:
    """One that is out of the model's range is then no reason to reject."""
    strange = replace(random_records(1)[0], headers=(("label", b"3"),))

    batch = projector_of(lambda: tiny(classes=2), loss="pseudo").project([strange])

    (outcome,) = batch.outcomes
    assert isinstance(outcome, Projected)
    assert outcome.label is not None
    assert outcome.label.number in {0, 1}


class _RunsOut(nn.Module):
    """Has room for so many forward passes, and then for none."""

    def __init__(self, passes: float, error: Exception) -> None:
        super().__init__()
        self.inner = tiny()
        self.passes = passes
        self.error = error

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.passes -= 1
        if self.passes < 0:
            raise self.error
        logits: torch.Tensor = self.inner(inputs)
        return logits


def without_room(error: Exception) -> RecordProjector:
    """One that has projected a record and has no memory left for another."""
    projector = projector_of(lambda: _RunsOut(float("inf"), error))
    projector.project(random_records(1))
    projector.spec.model.passes = 0  # type: ignore[assignment]
    return projector


@pytest.mark.parametrize("count", [1, 8, 30])
@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9")],
)
def test_memory_that_runs_out_is_no_records_fault(count: int, error: Exception) -> None:
    """Not even of a record that stands alone: the error passes as it is, and nothing is rejected."""
    with pytest.raises(type(error)) as raised:
        without_room(error).project(random_records(count))

    assert is_out_of_memory(raised.value)


def test_memory_that_runs_out_in_the_first_probe_is_no_records_fault() -> None:
    """The probe fails on every record then; none of them is rejected for it."""
    with pytest.raises(MemoryError):
        projector_of(lambda: _RunsOut(0, MemoryError())).project(random_records(3))


def test_memory_that_runs_out_in_decoding_is_no_records_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """A codec that has no room for its tensor says nothing of the record."""

    def no_room(*_arguments: object) -> torch.Tensor:
        raise MemoryError

    monkeypatch.setattr("dugs_stream.inputs.npy.tensor_of", no_room)

    with pytest.raises(MemoryError):
        projector_of().project(random_records(3))


def numbers_projector(tile_mates: int = 8) -> RecordProjector:
    """A projector for a loss of one's own, whose labels are numbers or lists of them."""
    torch.manual_seed(1)
    decoder = build_decoder(
        NpyCodecSettings(),
        label="header:label",
        classes=None,
        label_is_required=False,
        max_record_bytes=10_000,
        label_type="float32",
    )
    spec = GradientSpec(tiny(), 2, squared_error, dimension=128, seed=0, device="cpu", tile=tile_mates)
    return RecordProjector(decoder, spec, lambda _stage: nullcontext())


def test_numbers_as_labels_reach_a_loss_of_ones_own() -> None:
    """The same sample with another target has another gradient, which is that of autograd."""
    values = np.linspace(-1, 1, WIDTH).astype(np.float32)
    records = [record(place, values, label) for place, label in enumerate(("-0.5", "2.25", "-0.5"))]

    batch = numbers_projector().project(records)

    first, second, third = batch.projection.vectors
    assert np.array_equal(first, third)
    assert not np.array_equal(first, second)
    torch.manual_seed(1)
    model = tiny().eval()
    for row, target in enumerate((-0.5, 2.25)):
        model.zero_grad()
        squared_error(model(torch.from_numpy(values)[None]), torch.tensor([target])).sum().backward()
        norm = sum(float((parameter.grad.double() ** 2).sum()) for parameter in model.parameters()) ** 0.5  # type: ignore[union-attr]
        assert batch.projection.norms[row] == pytest.approx(
            norm, rel=0.5
        )  # the sketch's own error at k = 128


def test_targets_of_different_shapes_are_projected_as_each_alone() -> None:
    """Lists of other lengths cannot stand in one tensor; company changes no bit of a vector all the same."""
    labels = ["0.5", "[1, 2]", "[1, 2, 3]", "-1", "[0.5, 0.25]"]
    values = np.random.default_rng(0).normal(size=(len(labels), WIDTH)).astype(np.float32)
    records = [record(place, values[place], label) for place, label in enumerate(labels)]

    together = numbers_projector().project(records)
    alone = [numbers_projector().project([each]).projection.vectors[0] for each in records]

    assert rejected(together) == []
    assert np.array_equal(together.projection.vectors, np.stack(alone))


def test_skipped_record_is_in_nobodys_way() -> None:
    """It has no vector and no rejection, also as the first of all; the others are projected as without it."""
    decoder = build_decoder(
        CustomCodecSettings(type="tests.support.records.own_code:labelled"),
        label="none",
        classes=None,
        label_is_required=True,
        max_record_bytes=10_000,
    )

    def projector() -> RecordProjector:
        torch.manual_seed(1)
        spec = GradientSpec(tiny(), 2, "label", dimension=128, seed=0, device="cpu", tile=8)
        return RecordProjector(decoder, spec, lambda _stage: nullcontext())

    def json_record(offset: int, document: object) -> Record:
        return Record(None, json.dumps(document).encode(), topic="in", partition=0, offset=offset)

    values = np.random.default_rng(0).normal(size=(3, WIDTH)).round(3).tolist()
    good = [json_record(place, {"x": row, "y": place}) for place, row in enumerate(values)]
    gone = json_record(9, {"gone": True})

    batch = projector().project([gone, good[0], gone, *good[1:], gone])

    assert [isinstance(outcome, Skip) for outcome in batch.outcomes] == [
        True,
        False,
        True,
        False,
        False,
        True,
    ]
    assert np.array_equal(batch.projection.vectors, projector().project(good).projection.vectors)
    assert projector().project([gone, gone]).outcomes == (Skip(), Skip())
