"""Which records should a learner replay that sees each once? Disjoint MNIST, as in the paper on GSS, on 5 000 digits.

Five tasks of two classes in turn, one pass, batches of 10; three times a batch a step on it and a step on 10 of the buffer
(SGD, rate 0.05, a perceptron with two hidden layers of 100). Accuracy over all ten classes, on digits held out. The paper has
1 000 records a task and MNIST's own test set; here a task has 900, and 500 digits are held out, drawn anew for each seed.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.command import as_command, say
from benchmarks.mean_interval import mean_interval
from benchmarks.replay_buffers import BUFFERS, Buffer
from benchmarks.report import Measurement, Report, Target
from dugs_stream.lab.demo.digits import load_digits

SEED = 100  # of the first run; the rules were tried out under smaller ones
TASKS, BATCH, ITERATIONS, RATE = 5, 10, 3, 0.05
PUBLISHED = {
    300: {"random": 0.375, "GSS-Greedy": 0.826},
    400: {"random": 0.459, "GSS-Greedy": 0.846},
    500: {"random": 0.579, "GSS-Greedy": 0.848},
}
"""Accuracies of the paper's Table 1, by the buffer's size."""


@dataclass(frozen=True, slots=True)
class Size:
    """Of the buffers, how many runs, and records a task."""

    buffers: tuple[int, ...]
    runs: int
    of_a_task: int


FULL = Size(buffers=tuple(PUBLISHED), runs=10, of_a_task=900)
QUICK = Size(buffers=(20,), runs=2, of_a_task=30)


def measure(is_quick: bool, only: str = "*") -> Report:
    """Every kind of buffer at every size that the glob matches."""
    size = QUICK if is_quick else FULL
    split = load_digits()
    train, stream = split.train, split.stream
    images = torch.from_numpy(np.concatenate([train.images, stream.images])).flatten(1).float() / 255
    labels = torch.from_numpy(np.concatenate([train.labels, stream.labels]))
    buffers = [each for each in size.buffers if fnmatch.fnmatchcase(str(each), only)]
    return Report(
        name="disjoint_digits",
        question=f"accuracy after five tasks of two digits in turn, mean of {size.runs} runs",
        spread="95 % of that mean",
        seed=SEED,
        is_quick=is_quick,
        measurements=[line for each in buffers for line in _at(each, size, images, labels)],
    )


def _at(held: int, size: Size, images: Tensor, labels: Tensor) -> Iterator[Measurement]:
    published = PUBLISHED.get(held, {})
    for name, kind in BUFFERS.items():
        say(f"{held} held, {name}")
        found = []
        for seed in range(SEED, SEED + size.runs):
            generator = torch.Generator().manual_seed(seed)
            found.append(learnt(kind(held, generator), images, labels, size.of_a_task, generator))
        target = (
            Target("at least", published["GSS-Greedy"]) if name.startswith("uniques") and published else None
        )
        yield Measurement(
            f"{held} held, {name}",
            *mean_interval(found),
            target,
            facts={"runs": found, "published": published.get(name)},
            note=f"published: {published[name]:.1%}" if name in published else "",
        )


def learnt(
    buffer: Buffer, images: Tensor, labels: Tensor, of_a_task: int, generator: torch.Generator
) -> float:
    """One pass over the tasks with this buffer → accuracy on the digits held out."""
    model = _learner(generator)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    order = torch.randperm(len(images), generator=generator)
    tasks = [order[labels[order] // 2 == task] for task in range(TASKS)]
    for rows in (task[:of_a_task] for task in tasks):
        for some in rows.split(BATCH):
            _learn(model, optimizer, buffer, images[some], labels[some])
            with torch.no_grad():
                buffer.take(model, images[some], labels[some])
    held_out = torch.cat([task[of_a_task:] for task in tasks])
    with torch.no_grad():
        return float((model(images[held_out]).argmax(1) == labels[held_out]).double().mean())


def _learner(generator: torch.Generator) -> nn.Sequential:
    model = nn.Sequential(
        nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 2 * TASKS)
    )
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight, generator=generator)
            nn.init.zeros_(layer.bias)
    return model


def _learn(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    buffer: Buffer,
    inputs: Tensor,
    labels: Tensor,
) -> None:
    """Three steps on the batch, each followed by one on records of the buffer, in an order drawn once a batch."""
    order = buffer.replay_order()
    begin = 0
    for _ in range(ITERATIONS):
        _step(model, optimizer, inputs, labels)
        if len(buffer):
            some = order[begin : begin + BATCH]
            _step(model, optimizer, buffer.inputs[some], buffer.labels[some])
            begin = 0 if begin + BATCH >= len(buffer) else begin + BATCH


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, inputs: Tensor, labels: Tensor) -> None:
    optimizer.zero_grad()
    functional.cross_entropy(model(inputs), labels).backward()
    optimizer.step()


if __name__ == "__main__":
    as_command(
        [measure], "Accuracy of a learner that replays records of a buffer, by buffer.", has_cases=True
    )()
