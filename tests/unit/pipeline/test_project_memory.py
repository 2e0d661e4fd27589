"""Memory while records are projected: it runs out through no record's fault, and large samples are let go of."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch
from torch import nn

from dugs_stream.core.gradients.memory import is_out_of_memory
from dugs_stream.inputs.decoder import Sample
from dugs_stream.inputs.labels import Label
from dugs_stream.pipeline.decode import DecodedBatch
from dugs_stream.pipeline.project import RecordProjector
from tests.support.models.small import tiny
from tests.unit.pipeline.engine import (
    of_any_length,
    projected,
    projector_of,
    random_records,
    record,
)


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
