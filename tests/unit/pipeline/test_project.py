"""Bytes in, vectors out: the half of the pipeline that needs no index, on a small real model."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch

from dugs_stream.core.gradient_spec import GradientSpec
from dugs_stream.errors import ModelError
from dugs_stream.inputs.decoder import build_decoder
from dugs_stream.inputs.settings import CustomCodecSettings
from dugs_stream.pipeline.decode import BatchAbandonedError
from dugs_stream.pipeline.project import RecordProjector
from dugs_stream.pipeline.projected import Projected
from dugs_stream.records import Reason, Record, Rejection, Skip
from tests.support.models.small import WIDTH, breaks_on_large, mixes_samples, tiny
from tests.unit.pipeline.engine import (
    of_any_length,
    projected,
    projector_of,
    random_records,
    record,
    rejected,
    rejection_of,
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
