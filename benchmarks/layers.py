"""What does a projected gradient of the layers that people choose cost? Ours ÷ a plain forward and batched backward.

One batch in one tile, the layers' own real data and loss (`benchmarks.layer_cases`). The baseline is the same forward
pass and the backward pass that yields the weight gradients of the same layers for the whole batch, all else frozen.
"alone" means that both sides are given the features below the chosen layers.

Before anything is timed the vectors of some samples are held against the definition: autograd in float64, one sample at
a time, sketched entry by entry.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass

import numpy as np

from benchmarks.alternating import time_in_turns
from benchmarks.baseline import plain_backward
from benchmarks.command import as_command
from benchmarks.engine import engine_for, require_definition
from benchmarks.layer_cases import CASES, SEED, Case, build
from benchmarks.report import Measurement, Report, Target, unmeasured


@dataclass(frozen=True, slots=True)
class Size:
    """checked: how many samples, spread over the batch, are held against the definition."""

    pairs: int
    checked: int
    is_toy: bool


FULL = Size(pairs=9, checked=2, is_toy=False)
QUICK = Size(pairs=1, checked=2, is_toy=True)


def measure(is_quick: bool, only: str = "*") -> Report:
    """Every case whose name the glob matches, at every k; the quick run at the smallest."""
    size = QUICK if is_quick else FULL
    measurements: list[Measurement] = []
    for name in fnmatch.filter(CASES, only):
        case = build(name, is_toy=size.is_toy)
        dimensions = [min(case.limits)] if is_quick else list(case.limits)
        measurements += [_ratio(case, dimension, case.limits[dimension], size) for dimension in dimensions]
    return Report(
        name="layers",
        question="projected gradients of chosen layers ÷ forward + batched backward of the same layers",
        spread=f"smallest and largest of {size.pairs} pairs",
        seed=SEED,
        is_quick=is_quick,
        measurements=measurements,
    )


def _ratio(case: Case, dimension: int, limit: float, size: Size) -> Measurement:
    title, target = f"{case.name}, k = {dimension}", Target("at most", limit)
    try:
        engine = engine_for(case, dimension)
    except Exception as error:  # noqa: BLE001 -- the table names it
        return unmeasured(title, target, error)
    rows = np.linspace(0, case.samples - 1, size.checked, dtype=int).tolist()
    difference = require_definition(engine, rows)
    pairs = time_in_turns(engine.project, plain_backward(case), size.pairs)
    return Measurement(
        title,
        pairs.median,
        min(pairs.ratios),
        max(pairs.ratios),
        target,
        facts={
            **pairs.facts,
            "paths": engine.paths,
            "difference": difference,
            "samples": case.samples,
            "tile": engine.deduplicator.tile,  # smaller than the samples, if the probe found that it had to be
        },
    )


if __name__ == "__main__":
    as_command([measure], "What projected gradients of chosen layers cost.", has_cases=True)()
