"""Labels on their way to the loss: missing, unknown, out of range, predicted, numbers and lists of them."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch

from dugs_stream.core.gradient_spec import GradientSpec
from dugs_stream.errors import ConfigurationError
from dugs_stream.inputs.decoder import build_decoder
from dugs_stream.inputs.settings import NpyCodecSettings
from dugs_stream.pipeline.project import RecordProjector
from dugs_stream.pipeline.projected import Projected
from dugs_stream.records import Reason
from tests.support.models.small import WIDTH, breaks_on_large, tiny
from tests.support.records.own_code import squared_error
from tests.unit.pipeline.engine import (
    projected,
    projector_of,
    random_records,
    record,
    rejected,
    rejection_of,
)


def to_a_number(outputs: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
    """A loss of one's own, with labels and without."""
    wanted = outputs.new_zeros(len(outputs)) if labels is None else labels
    return (outputs.sum(1) - wanted).square()


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


def test_labels_are_ignored_where_the_model_predicts_them() -> None:
    """One that is out of the model's range is then no reason to reject."""
    strange = replace(random_records(1)[0], headers=(("label", b"3"),))

    batch = projected(projector_of(lambda: tiny(classes=2), loss="pseudo", classes=None), [strange])

    (outcome,) = batch.outcomes
    assert isinstance(outcome, Projected)
    assert outcome.label is not None
    assert outcome.label.number in {0, 1}


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
