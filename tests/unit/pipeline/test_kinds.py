"""Samples that share a tile: labels joined, precisions made equal, and bits that do not depend on the company."""

from __future__ import annotations

import io
from contextlib import nullcontext

import numpy as np
import torch

from dugs_stream.core.gradient_spec import GradientSpec
from dugs_stream.inputs.custom import CustomCodec
from dugs_stream.inputs.decoder import Decoder
from dugs_stream.inputs.labels import Labels
from dugs_stream.inputs.settings import parse_label_place
from dugs_stream.pipeline.project import RecordProjector
from dugs_stream.records import Reason, Rejection
from tests.support.models.small import WIDTH, tiny
from tests.unit.pipeline.engine import projected, projector_of, record


def test_tile_of_given_classes_is_computed_as_each_alone() -> None:
    """Labels of a tile become one tensor, a class that the model lacks among them."""
    records = [
        record(0, np.ones(WIDTH, np.float32), "0"),
        record(1, np.ones(WIDTH, np.float32), "9"),
        record(2, np.ones(WIDTH, np.float32), "3"),
    ]

    batch = projected(projector_of(classes=None), records)

    alone = [projected(projector_of(classes=None), [each]) for each in records]
    assert (
        batch.outcomes[1]
        == alone[1].outcomes[0]
        == Rejection(Reason.LABEL_OUT_OF_RANGE, "label 9, expected 0 to 3")
    )
    for row, each in ((0, alone[0]), (1, alone[2])):
        assert np.array_equal(batch.projection.vectors[row], each.projection.vectors[0])


def test_samples_of_another_precision_share_the_tile_of_the_models_own() -> None:
    """They become the model's precision first, as they would alone."""
    values = np.linspace(-1, 1, WIDTH)
    projector = mixed_precisions()
    records = [record(at, values + at) for at in range(4)]

    batch = projected(projector, records)

    for row, each in enumerate(records):
        alone = projected(mixed_precisions(), [each])
        assert np.array_equal(batch.projection.vectors[row], alone.projection.vectors[0])
    assert len(projector._kinds) == 1


def mixed_precisions() -> RecordProjector:
    """A projector behind a codec that gives float32 and float64 by turns."""
    torch.manual_seed(1)

    def by_turns(value: bytes) -> torch.Tensor:
        numbers = np.load(io.BytesIO(value))
        return torch.from_numpy(numbers.astype(np.float32) if round(numbers[-1]) % 2 else numbers)

    decoder = Decoder(CustomCodec(by_turns), Labels(parse_label_place("header:label")), 10_000)
    spec = GradientSpec(tiny(), 2, "label", dimension=128, seed=0, device="cpu", tile=4)
    return RecordProjector(decoder, spec, lambda _stage: nullcontext())
