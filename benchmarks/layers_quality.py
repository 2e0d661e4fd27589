"""How well do k numbers keep the angles between gradients of the layers that people choose? Error ÷ a dense Gaussian's.

The gradients are autograd's, of real data (`benchmarks.layer_cases`); their map is the engine's, entry for entry, which is
verified for one seed before it is measured over many: all routes to a vector give the same one. The error is the root
mean square, over pairs of gradients and over seeds, of projected − exact cosine.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from benchmarks.command import as_command
from benchmarks.cosine_error import cosine_errors, cosines, gaussian_projections, resampled_ratios
from benchmarks.engine import TOLERANCE, engine_for
from benchmarks.gradients import sketched_gradients, unit_gradients
from benchmarks.layer_cases import CASES, SEED, Case, build, inner_products
from benchmarks.report import Measurement, Report, Target, unmeasured

MEAN_TARGET = Target("at most", 1.05)
WORST_TARGET = Target("at most", 1.5)
_PARTS = {
    "gpt2-blocks",  # a part of gpt2-whole
    "resnet18-layer4-alone",  # the gradients of resnet18-layer4
    "efficientnet-tail-1",  # a part of efficientnet-tail-3
    "efficientnet-tail-2",
}


@dataclass(frozen=True, slots=True)
class Size:
    """Of which cases, and how many gradients and maps."""

    cases: tuple[str, ...]
    samples: int
    seeds: int
    is_toy: bool


FULL = Size(cases=tuple(name for name in CASES if name not in _PARTS), samples=24, seeds=64, is_toy=False)
QUICK = Size(cases=("cnn-head", "lm-embedding", "minilm-block"), samples=4, seeds=3, is_toy=True)


def measure(is_quick: bool, only: str = "*") -> Report:
    """Every case whose name the glob matches, at every k: the ratio of errors and the worst seed."""
    size = QUICK if is_quick else FULL
    measurements: list[Measurement] = []
    for name in fnmatch.filter(size.cases, only):
        measurements += _of_case(build(name, is_toy=size.is_toy), size)
    return Report(
        name="layers_quality",
        question=f"cosine error ÷ a dense Gaussian's, {size.samples} gradients, {size.seeds} seeds",
        spread="95 % of bootstraps over seeds",
        seed=SEED,
        is_quick=is_quick,
        measurements=measurements,
    )


def _of_case(case: Case, size: Size) -> Iterator[Measurement]:
    grams = inner_products(case, size.samples)
    exact = cosines(np.sum(list(grams.values()), axis=0))
    gradients = unit_gradients(case, size.samples)
    for dimension in case.limits:
        title = f"{case.name}, k = {dimension}"
        try:
            _require_the_engines_map(case, gradients, dimension)
        except Exception as error:  # noqa: BLE001 -- the table names it
            yield unmeasured(title, MEAN_TARGET, error)
            continue
        generator = np.random.default_rng(SEED)
        ours = cosine_errors(
            (sketched_gradients(gradients, seed, dimension) for seed in range(size.seeds)), exact
        )
        dense = cosine_errors(gaussian_projections(exact, dimension, 2 * size.seeds, generator), exact)
        low, high = np.quantile(resampled_ratios(ours.squares, dense.squares, generator), [0.025, 0.975])
        facts = {"rmse": ours.rmse, "gaussian_rmse": dense.rmse}
        yield Measurement(title, ours.rmse / dense.rmse, float(low), float(high), MEAN_TARGET, facts)
        worst, gaussian_worst = (float(np.sqrt(e.squares.max())) / dense.rmse for e in (ours, dense))
        yield Measurement(
            f"{title}, worst seed (the Gaussian's own: {gaussian_worst:.2f})", worst, target=WORST_TARGET
        )


def _require_the_engines_map(case: Case, gradients: dict[str, Tensor], dimension: int) -> None:
    expected = sketched_gradients(gradients, SEED, dimension)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    vectors = engine_for(case, dimension).project().vectors[: len(expected)]
    worst = float(np.linalg.norm(vectors - expected, axis=1).max())
    assert worst <= TOLERANCE, f"the engine's vectors differ by {worst:.1e}: another map would be measured"


if __name__ == "__main__":
    as_command([measure], "How well the sketch keeps cosines, beside a dense Gaussian map.", has_cases=True)()
