"""How does the error of a cosine fall with k? Our map, a dense Gaussian and two random matrices a layer, on real gradients.

Root mean square error over pairs of gradients and over seeds. The Gaussian's is that of its law; "two random matrices" is the
map L·G·R that keeps a layer's factors apart and so is cheap (LoGra; bergson and dattri-llm by default).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.command import as_command
from benchmarks.cosine_error import Errors, cosine_errors, cosines, gaussian_projections
from benchmarks.gradients import kronecker_gradients, sketched_gradients, unit_gradients
from benchmarks.layer_cases import SEED, build, inner_products
from benchmarks.report import Measurement, Report

NAME = "error_against_k"
OURS, GAUSSIAN, KRONECKER = "this project", "dense Gaussian", "two random matrices a layer"


@dataclass(frozen=True, slots=True)
class Size:
    """Which cases, how many gradients and maps, and dimensions."""

    cases: tuple[str, ...]
    samples: int
    seeds: int
    dimensions: tuple[int, ...]
    is_toy: bool


FULL = Size(
    cases=("cnn-head", "minilm-block", "lm-block"),
    samples=24,
    seeds=16,
    dimensions=(128, 256, 512, 1024, 2048, 4096),
    is_toy=False,
)
QUICK = Size(cases=("cnn-head",), samples=4, seeds=2, dimensions=(16, 32), is_toy=True)


def measure(is_quick: bool) -> Report:
    """Every map at every k of every case."""
    size = QUICK if is_quick else FULL
    return Report(
        name=NAME,
        question=f"root mean square error of a cosine, {size.samples} gradients, {size.seeds} seeds",
        spread="best and worst seed",
        seed=SEED,
        is_quick=is_quick,
        measurements=[line for name in size.cases for line in _of_case(name, size)],
    )


def _of_case(name: str, size: Size) -> Iterator[Measurement]:
    case = build(name, is_toy=size.is_toy)
    exact = cosines(np.sum(list(inner_products(case, size.samples).values()), axis=0))
    gradients = unit_gradients(case, size.samples)
    generator = np.random.default_rng(SEED)
    for dimension in size.dimensions:
        dense = cosine_errors(gaussian_projections(exact, dimension, size.seeds, generator), exact)
        for title, errors in (
            (OURS, _errors(sketched_gradients, gradients, dimension, size.seeds, exact)),
            (GAUSSIAN, dense),
            (KRONECKER, _errors(kronecker_gradients, gradients, dimension, size.seeds, exact)),
        ):
            roots = np.sqrt(errors.squares)
            yield Measurement(
                f"{case.name}, k = {dimension}: {title}",
                errors.rmse,
                float(roots.min()),
                float(roots.max()),
                facts={"case": case.name, "k": dimension, "map": title},
            )


def _errors(
    project: Callable[[dict[str, Tensor], int, int], NDArray[np.float64]],
    gradients: dict[str, Tensor],
    dimension: int,
    seeds: int,
    exact: NDArray[np.float64],
) -> Errors:
    return cosine_errors((project(gradients, seed, dimension) for seed in range(seeds)), exact)


if __name__ == "__main__":
    as_command([measure], "How the error of a cosine falls with k.")()
