"""The first labels of a process: how often the model agrees, and labels that nobody needs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from structlog.testing import capture_logs
from torch import Tensor, nn

from dugs_stream.pipeline.first_labels import Agreement
from dugs_stream.pipeline.projected import Projected
from dugs_stream.records import Record
from tests.unit.pipeline.engine import projected, projector_of, random_records, record


def largest() -> nn.Module:
    """A model whose class is the place of the largest of four numbers."""
    layers = [nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)]
    for layer in layers:
        nn.init.eye_(layer.weight)
    return nn.Sequential(*layers)


class PositionsFirst(nn.Module):
    """A layer that is given the rows of all samples at once, position by position: hooks cannot tell samples apart."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(4, 4), nn.Linear(2, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        """(m, 4) → logits (m, 4)."""
        rows = self.body(inputs).reshape(-1, 2, 2).transpose(0, 1).reshape(-1, 2)
        return self.head(rows).reshape(2, -1, 2).transpose(0, 1).flatten(1)


def labelled(count: int, shift: int = 0) -> list[Record]:
    """Records of the four classes in turn, their labels moved on by `shift`."""
    return [record(at, np.eye(4, dtype=np.float32)[at % 4], str((at + shift) % 4)) for at in range(count)]


@pytest.mark.parametrize(("shift", "right"), [(0, 20), (1, 0)])
def test_agreement_counts_the_labels_that_the_model_would_give(shift: int, right: int) -> None:
    """A list of classes in another order shows as a model that is always wrong."""
    projector = projector_of(largest)
    projected(projector, labelled(12, shift))
    projected(projector, [*labelled(8, shift), replace(labelled(1)[0], headers=())])

    assert projector.first_labels.agreement == Agreement(right, 20, 4)


def test_labels_are_compared_without_a_pass_of_their_own() -> None:
    """The one that gives a record's gradient shows what the model predicts."""
    model, ran = largest(), list[int]()
    projector = projector_of(lambda: model)
    projected(projector, labelled(1))  # the probe
    model.register_forward_hook(lambda _model, _inputs, output: ran.append(len(output)))
    projected(projector, labelled(projector.tile))

    assert ran == [projector.tile]
    assert projector.first_labels.agreement.records == 1 + projector.tile


def test_labels_are_compared_where_the_whole_loss_runs_back() -> None:
    """Which does not show what the model predicts."""
    projector = projector_of(PositionsFirst)
    projected(projector, labelled(12))
    model = projector.spec.model
    right = int((model(torch.eye(4).repeat(3, 1)).argmax(1) == torch.arange(12) % 4).sum())

    assert projector.found is not None
    assert projector.found.is_last_resort
    assert projector.first_labels.agreement == Agreement(right, 12, 4)


def test_only_the_first_labels_are_looked_at() -> None:
    """256 are enough to tell a model that knows its classes from chance."""
    projector = projector_of(largest)
    for _ in range(3):
        projected(projector, labelled(100))

    assert projector.first_labels.agreement == Agreement(256, 256, 4)


@pytest.mark.parametrize("label", [b"cat", b"77", b"-1", b"\xff"])
def test_label_that_nobody_needs_rejects_nothing_and_is_said_once(label: bytes) -> None:
    """With loss pseudo the model's own prediction is the label."""
    strange = [replace(each, headers=(("label", label),)) for each in random_records(5)]
    projector = projector_of(loss="pseudo")

    with capture_logs() as lines:
        batches = [projected(projector, strange) for _ in range(2)]

    assert all(isinstance(outcome, Projected) for batch in batches for outcome in batch.outcomes)
    (line,) = lines
    assert (line["event"], line["record"]) == ("label.ignored", "in/0/0")
    assert "pseudo" in line["then"]


def test_labels_in_order_need_no_remark() -> None:
    """Given or not."""
    records = [*random_records(5), replace(random_records(1)[0], headers=())]

    with capture_logs() as lines:
        projected(projector_of(loss="pseudo"), records)

    assert lines == []
