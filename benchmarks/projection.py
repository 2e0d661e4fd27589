"""What does a projected gradient cost? Our projection ÷ a plain forward and backward over the same layers.

AlexNet at 28×28, its last two Linear layers (16.8 million parameters), 64 digits a call. `tile 64` computes in
the same company as the baseline; `tile 32` is the default. `head alone` gives both sides the inputs of the
first chosen layer, so that the convolutions below, which cost both the same, hide nothing.

Before anything is timed the vectors are held against the definition: autograd's gradient of one sample at a
time, entry by entry into its bucket.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.alternating import time_in_turns
from benchmarks.baseline import forward_and_backward
from benchmarks.command import as_command
from benchmarks.report import Measurement, Report, Target
from benchmarks.workload import CHOSEN_LAYERS, Workload, alexnet_on_digits, toy
from dugs_stream import Deduplicator
from tests.support.oracles.gradients import per_sample_gradients, sketched

SEED = 0
TARGET = Target("at most", 1.1)
_TOLERANCE = 1e-5  # float32 against the definition in float64, vectors of length 1


@dataclass(frozen=True, slots=True)
class Size:
    """checked: how many samples, spread over the batch, are held against the definition."""

    batch: int
    dimensions: tuple[int, ...]
    tiles: tuple[int, ...]
    pairs: int
    checked: int


FULL = Size(batch=64, dimensions=(512, 4096), tiles=(64, 32), pairs=11, checked=4)
QUICK = Size(batch=8, dimensions=(16,), tiles=(8, 4), pairs=1, checked=2)


@dataclass(frozen=True, slots=True)
class _Part:
    """What is timed: the whole model, or its head with the inputs given."""

    title: str
    model: nn.Module
    chosen: tuple[str, str]
    inputs: Tensor
    labels: Tensor


def measure(is_quick: bool) -> Report:
    """Every k, tile and part; each ratio the median of alternating pairs."""
    size = QUICK if is_quick else FULL
    workload = toy(size.batch, SEED) if is_quick else alexnet_on_digits(size.batch, SEED, is_trained=False)
    measurements = [
        measurement
        for dimension in size.dimensions
        for part in _parts(workload)
        for measurement in _ratios(part, dimension, size)
    ]
    return Report(
        name="projection",
        question=f"{size.batch} projected gradients ÷ forward + batched backward, last {CHOSEN_LAYERS} Linear layers",
        spread=f"smallest and largest of {size.pairs} pairs",
        seed=SEED,
        is_quick=is_quick,
        measurements=measurements,
    )


def _parts(workload: Workload) -> tuple[_Part, _Part]:
    head = ("0", str(len(workload.head) - 1))
    return (
        _Part("whole model", workload.model, workload.chosen, workload.inputs, workload.labels),
        _Part("head alone", workload.head, head, workload.head_inputs, workload.labels),
    )


def _ratios(part: _Part, dimension: int, size: Size) -> Iterator[Measurement]:
    rows = np.linspace(0, size.batch - 1, size.checked, dtype=int).tolist()
    expected = _by_definition(part, rows, dimension)
    parameters = [p for name in part.chosen for p in part.model.get_submodule(name).parameters()]
    baseline = forward_and_backward(part.model, parameters, partial(_summed_loss, part))
    for tile in size.tiles:
        engine = Deduplicator(
            part.model, CHOSEN_LAYERS, dimension=dimension, seed=SEED, tile=tile, device="cpu"
        )
        project = partial(engine.project, part.inputs, part.labels)
        _require_equal(project().vectors[rows], expected)
        pairs = time_in_turns(project, baseline, size.pairs)
        yield Measurement(
            case=f"{part.title}, k = {dimension}, tile {tile}",
            value=pairs.median,
            low=min(pairs.ratios),
            high=max(pairs.ratios),
            target=TARGET if part.title == "whole model" else None,
            facts=pairs.facts,
        )


def _by_definition(part: _Part, rows: Sequence[int], dimension: int) -> NDArray[np.float64]:
    """Unit vectors (rows, k): each sample's gradient by autograd alone, mapped entry by entry."""
    vectors = []
    for row in rows:  # one at a time: a sample's gradient takes 130 MB in float64
        label = part.labels[row : row + 1]
        (gradients,) = per_sample_gradients(
            part.model, part.chosen, part.inputs[row : row + 1], partial(_loss_of, label)
        )
        vector = sketched(gradients, SEED, dimension)
        vectors.append(vector / np.linalg.norm(vector))
    return np.stack(vectors)


def _summed_loss(part: _Part) -> Tensor:
    return nn.functional.cross_entropy(part.model(part.inputs), part.labels, reduction="sum")


def _loss_of(label: Tensor, logits: Tensor, _at: int) -> Tensor:
    return nn.functional.cross_entropy(logits.to(torch.float64), label)


def _require_equal(vectors: NDArray[np.float32], expected: NDArray[np.float64]) -> None:
    worst = float(np.abs(vectors - expected).max())
    assert worst <= _TOLERANCE, f"vectors differ by {worst:.1e} from the definition: there is nothing to time"


if __name__ == "__main__":
    as_command([measure], "What a projected gradient costs, as a multiple of a forward and backward pass.")()
