"""Bytes in, vectors out: the half of the pipeline that needs no index, on a small real model."""

from __future__ import annotations

import json
import weakref
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from dugs_stream.core.gradient_spec import GradientSpec
from dugs_stream.core.gradients.memory import is_out_of_memory
from dugs_stream.errors import ConfigurationError, ModelError
from dugs_stream.inputs.decoder import Sample, build_decoder
from dugs_stream.inputs.labels import Label
from dugs_stream.inputs.settings import CustomCodecSettings, NpyCodecSettings
from dugs_stream.pipeline.decode import BatchAbandonedError, DecodedBatch
from dugs_stream.pipeline.project import RecordProjector
from dugs_stream.pipeline.projected import Projected, ProjectedBatch
from dugs_stream.records import Reason, Record, Rejection, Skip
from tests.support.models.small import WIDTH, breaks_on_large, mixes_samples, tiny
from tests.support.records.own_code import squared_error
from tests.unit.pipeline.engine import projected, projector_of, random_records, record


def rejection_of(batch: ProjectedBatch, place: int) -> Rejection:
    """Why the record at this place has no vector."""
    outcome = batch.outcomes[place]
    assert isinstance(outcome, Rejection)
    return outcome


def rejected(batch: ProjectedBatch) -> list[int]:
    """The places of the records that have no vector."""
    return [place for place, outcome in enumerate(batch.outcomes) if isinstance(outcome, Rejection)]


def to_a_number(outputs: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
    """A loss of one's own, with labels and without."""
    wanted = outputs.new_zeros(len(outputs)) if labels is None else labels
    return (outputs.sum(1) - wanted).square()


def of_any_length() -> nn.Module:
    """A model that takes a row of numbers of any length."""
    return nn.Sequential(
        nn.Unflatten(1, (1, -1)), nn.Conv1d(1, 5, 3), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(5, 4)
    )


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
    """In the first batch as in any other; it takes no bit from its neighbours' vectors. A shape may be unknown."""
    if reason is Reason.WRONG_SHAPE and not is_probed:
        reason = Reason.MODEL_ERROR
    good = random_records(9)
    projector, alone = projector_of(classes=None), projected(projector_of(classes=None), good)
    if is_probed:
        projector.expect((WIDTH,))

    batch = projected(projector, [*good[:3], bad, *good[3:]])

    assert (rejected(batch), rejection_of(batch, 3).reason) == ([3], reason)
    assert np.array_equal(batch.projection.vectors, alone.projection.vectors)
    assert [each.row for each in batch.outcomes if isinstance(each, Projected)] == list(range(9))


def test_record_that_breaks_the_model_is_isolated() -> None:
    """The batch is halved until the guilty record stands alone; the others get their vectors."""
    records = random_records(20)
    records[11] = breaking(11)

    batch = projected(projector_of(breaks_on_large), records)

    assert rejected(batch) == [11]
    assert rejection_of(batch, 11) == Rejection(Reason.MODEL_ERROR, "RuntimeError: a number above 1000.0")


def test_bad_first_record_does_not_become_the_probe() -> None:
    """If no shape is configured, the first record that the model can take sets it."""
    batch = projected(projector_of(breaks_on_large), [breaking(0), *random_records(4)[1:]])

    assert rejected(batch) == [0]
    assert rejection_of(batch, 0).reason is Reason.MODEL_ERROR


@pytest.mark.parametrize("place", [0, 2])
def test_record_of_a_shape_that_the_model_cannot_take_is_rejected_whenever_it_comes(place: int) -> None:
    """The first record does not set the shape: it would be another one after each restart."""
    records = random_records(3)
    records[place] = record(place, np.ones((2, WIDTH), np.float32))

    batch = projected(projector_of(breaks_on_large), records)

    assert (rejected(batch), rejection_of(batch, place).reason) == ([place], Reason.MODEL_ERROR)


def test_every_shape_goes_that_the_model_takes() -> None:
    """A codec of varying length; each vector is that of the record alone."""
    records = [record(at, np.ones(4 + at % 3, np.float32) * at) for at in range(7)]

    together = projected(projector_of(of_any_length), records)

    assert rejected(together) == []
    for row, one in enumerate(records):
        alone = projected(projector_of(of_any_length), [one])
        assert np.array_equal(alone.projection.vectors[0], together.projection.vectors[row])
        assert alone.projection.norms[0] == together.projection.norms[row]


def test_sample_that_is_far_larger_than_its_record_is_rejected_where_no_shape_is_expected() -> None:
    """A picture of a kilobyte may hold millions of pixels; a tile of them would end the process, again and again."""
    small = record(1, np.ones(3000, np.float16))  # 6 kB, and 12 kB as float32
    projector = projector_of(of_any_length)

    batch = projected(projector, [random_records(1)[0], small])

    assert (rejected(batch), rejection_of(batch, 1).reason) == ([1], Reason.TOO_LARGE)
    assert "12000 bytes of numbers, at most 10000" in rejection_of(batch, 1).error
    projector.expect((3000,))
    assert rejected(projected(projector, [small])) == []


def test_record_without_a_label_leaves_the_labels_of_its_tile() -> None:
    """A loss of one's own that can do without is given the labels that there are."""
    records = [record(at, np.ones(WIDTH, np.float32) * at, str(at)) for at in range(4)]
    beside = record(4, np.ones(WIDTH, np.float32), None)

    with_it = projected(projector_of(tiny, loss=to_a_number), [*records, beside])
    without = projected(projector_of(tiny, loss=to_a_number), records)

    assert rejected(with_it) == []
    assert np.array_equal(with_it.projection.norms[:4], without.projection.norms)


def test_label_that_the_model_has_no_class_for_is_rejected_before_and_after_the_probe() -> None:
    """Only the probe says how many classes there are; the record may well be the first."""
    beyond = replace(random_records(1)[0], headers=(("label", b"4"),))
    projector = projector_of(breaks_on_large, classes=None)

    for _ in range(2):
        assert rejection_of(projected(projector, [beyond]), 0).reason is Reason.LABEL_OUT_OF_RANGE


@pytest.mark.parametrize("loss", ["label", "pseudo"])
def test_list_of_classes_that_is_not_the_models_is_refused(loss: str) -> None:
    """One name an output: otherwise labels and gradients would be wrong in silence."""
    projector = projector_of(lambda: tiny(classes=10), loss=loss)

    with pytest.raises(
        ConfigurationError, match=r"input\.classes: it names 4 classes, the model has 10 outputs"
    ):
        projected(projector, random_records(1))


def test_batch_without_a_record_that_decodes_leaves_the_probe_to_the_next() -> None:
    """Nothing of it says what the model takes."""
    projector = projector_of()

    batch = projected(projector, [Record(None, None, topic="in", partition=0, offset=0)])

    assert rejected(batch) == [0]
    assert projector.found is None
    assert rejected(projected(projector, random_records(3))) == []


def test_model_that_fails_on_a_whole_first_batch_rejects_its_records() -> None:
    """They may be bad; whether to go on is the daemon's question, after enough of them."""
    batch = projected(projector_of(breaks_on_large), [breaking(offset) for offset in range(5)])

    assert rejected(batch) == list(range(5))
    assert rejection_of(batch, 4) == Rejection(Reason.MODEL_ERROR, "RuntimeError: a number above 1000.0")


def test_model_that_breaks_later_is_an_error_and_not_a_dead_letter() -> None:
    """The sample that it was probed with tells a broken device from a bad record."""
    projector = projector_of(breaks_on_large)
    projected(projector, random_records(4))
    projector.spec.model.limit = -1e9  # type: ignore[assignment]

    with pytest.raises(ModelError, match="fails on the sample that it was probed with"):
        projected(projector, random_records(4, seed=1))


def test_model_that_mixes_samples_is_refused_by_the_layers_name() -> None:
    """The first record is the probe, and the probe compares company with company."""
    with pytest.raises(ModelError, match=r"\b1\b"):
        projected(projector_of(mixes_samples), random_records(3))


def test_abandoning_stops_between_two_tiles() -> None:
    """Told to stop, projecting ends within one tile."""
    asked: list[None] = []

    def after_two_tiles() -> bool:
        asked.append(None)
        return len(asked) > 2

    with pytest.raises(BatchAbandonedError):
        projected(projector_of(), random_records(64), after_two_tiles)

    assert len(asked) == 3


def test_labels_are_ignored_where_the_model_predicts_them() -> None:
    """One that is out of the model's range is then no reason to reject."""
    strange = replace(random_records(1)[0], headers=(("label", b"3"),))

    batch = projected(projector_of(lambda: tiny(classes=2), loss="pseudo", classes=None), [strange])

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
    projected(projector, random_records(1))
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
        projected(without_room(error), random_records(count))

    assert is_out_of_memory(raised.value)


def test_memory_that_runs_out_in_the_first_probe_is_no_records_fault() -> None:
    """The probe fails on every record then; none of them is rejected for it."""
    with pytest.raises(MemoryError):
        projected(projector_of(lambda: _RunsOut(0, MemoryError())), random_records(3))


def test_memory_that_runs_out_in_decoding_is_no_records_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """A codec that has no room for its tensor says nothing of the record."""

    def no_room(*_arguments: object) -> torch.Tensor:
        raise MemoryError

    monkeypatch.setattr("dugs_stream.inputs.npy.tensor_of", no_room)

    with pytest.raises(MemoryError):
        projected(projector_of(), random_records(3))


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

    batch = projected(numbers_projector(), records)

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

    together = projected(numbers_projector(), records)
    alone = [projected(numbers_projector(), [each]).projection.vectors[0] for each in records]

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

    batch = projected(projector(), [gone, good[0], gone, *good[1:], gone])

    assert [isinstance(outcome, Skip) for outcome in batch.outcomes] == [
        True,
        False,
        True,
        False,
        False,
        True,
    ]
    assert np.array_equal(batch.projection.vectors, projected(projector(), good).projection.vectors)
    assert projected(projector(), [gone, gone]).outcomes == (Skip(), Skip())


def test_large_samples_are_let_go_of_while_the_batch_is_projected() -> None:
    """Their memory serves what is decoded meanwhile; a batch that is kept has them still."""
    numbers = np.random.default_rng(0).normal(size=(40, 2**14)).astype(np.float32)
    projector = projector_of(of_any_length)
    batch = DecodedBatch((), tuple(Sample(torch.from_numpy(row), Label(1, "b")) for row in numbers))
    batch.records = tuple(record(offset, numbers[0]) for offset in range(len(numbers)))
    kept = projector.project(batch)
    first = weakref.ref(batch.outcomes[0].inputs)  # type: ignore[union-attr,arg-type]
    were_there: list[bool] = []

    def look() -> bool:
        were_there.append(first() is not None)
        return False

    found = projector.project(batch, look, keeps_samples=False)

    assert were_there[0]
    assert not were_there[-1]
    assert batch.outcomes == ()
    assert np.array_equal(found.projection.vectors, kept.projection.vectors)
    assert found.outcomes == kept.outcomes
