"""What does a model learn from the picks? A small CNN trained from the start on 200 of them, ten streams.

The model that selects was trained on a thousand other MNIST digits. Every selection of `dugs evaluate` picks 200 of 1,500
digits; then a network of the same kind learns from these alone, as many steps each, and is tested on 500 digits held out.
The figure is its accuracy, mean over the draws, with the 95 % interval of the mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.command import as_command
from benchmarks.rare_classes import fitted, some, viewed
from benchmarks.report import Measurement, Report
from dugs_stream.lab.demo.digits import Digits, load_digits
from dugs_stream.lab.demo.training import as_inputs
from dugs_stream.lab.evaluate.candidates import candidates_of
from dugs_stream.lab.evaluate.measures import interval_of
from dugs_stream.lab.evaluate.plan import Plan
from dugs_stream.lab.evaluate.streams import AS_IT_IS, pool_and_held_out, scenes_of

_STEPS = 200
_STEPS_ON_PICKS = 100
_PLAN = Plan(draws=1, layers=(2,))


def measure(is_quick: bool) -> Report:
    """The accuracy after each selection's picks."""
    draws, records, size = (1, 80, 8) if is_quick else (10, 2_000, 200)
    steps = 2 if is_quick else _STEPS_ON_PICKS
    split, found = load_digits(), dict[str, list[float]]()
    selecting = fitted(
        as_inputs(split.train), torch.from_numpy(split.train.labels), 0, 8 if is_quick else _STEPS
    )
    for draw in range(draws):
        Console(stderr=True).print(f"draw {draw + 1} of {draws} …", style="dim")
        digits = some(split.stream, np.random.default_rng(draw).permutation(len(split.stream))[:records])
        plan = replace(_PLAN, size=size, seed=draw, losses=("label",) if is_quick else None)
        for selection, rows, held_out in _picked(selecting, digits, plan):
            found.setdefault(selection, []).append(_accuracy(digits, rows, held_out, draw, steps))
    rows = [Measurement(name, *interval_of(values)) for name, values in found.items()]
    return Report(
        "trained_on_picks",
        "Accuracy of a CNN trained on the picks alone",
        "95 % interval of the mean",
        0,
        is_quick,
        rows,
    )


def _picked(
    model: torch.nn.Module, digits: Digits, plan: Plan
) -> Iterator[tuple[str, NDArray[np.int64], NDArray[np.int64]]]:
    """Of each selection its name, its picks and the digits held out, as rows."""
    views = viewed(model, digits, plan).views
    _, held_out = pool_and_held_out(views)
    scene = next(
        each for each in scenes_of(views, plan, np.array([], dtype=np.int64)) if each.name == AS_IT_IS
    )
    stream = scene.streams[0].rows
    for candidate in candidates_of(views):
        if candidate.make is not None:
            picker = candidate.make()(stream, np.random.default_rng(plan.seed))
            yield candidate.name, stream[picker(plan.size)], held_out


def _accuracy(
    digits: Digits, rows: NDArray[np.int64], held_out: NDArray[np.int64], seed: int, steps: int
) -> float:
    inputs, labels = as_inputs(digits), torch.from_numpy(digits.labels)
    model = fitted(inputs[rows], labels[rows], seed, steps)
    with torch.no_grad():
        return float((model(inputs[held_out]).argmax(1) == labels[held_out]).double().mean())


if __name__ == "__main__":
    as_command([measure], "What a small CNN learns from uniques, and from other picks of the same size.")()
