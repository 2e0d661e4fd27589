"""How well do k numbers keep the angles between real gradients? Our error ÷ that of a dense Gaussian map.

Gradients of digits that the trained AlexNet has not seen, last two Linear layers (16.8 million parameters). The
error of a map is the root mean square, over pairs of gradients and over seeds, of projected − exact cosine.

Nothing of that size is ever formed. The gradient of a Linear layer is g ⊗ a and that of its bias g, so exact
inner products are Σ over layers ⟨g, g′⟩·(⟨a, a′⟩ + 1). All of it in float64: what is measured is the map.

Before that, for every k, the vectors of one seed are held against those of the engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.command import as_command
from benchmarks.cosine_error import cosine_errors, gaussian_projections, resampled_ratios
from benchmarks.report import Measurement, Report, Target
from benchmarks.workload import CHOSEN_LAYERS, Workload, alexnet_on_digits, toy
from dugs_stream import Deduplicator
from dugs_stream.core.losses.classes import cross_entropy
from dugs_stream.core.sketch.count_sketch import Sketch

SEED = 0
MEAN_TARGET = Target("at most", 1.15)
WORST_TARGET = Target("at most", 1.5)
BIAS_TARGET = Target("at most", 4)  # standard errors: an unbiased map exceeds it once in 16 000 runs
_TOLERANCE = 1e-5  # the engine computes in float32, vectors of length 1


@dataclass(frozen=True, slots=True)
class Size:
    """How many gradients, maps, and dimensions."""

    samples: int
    seeds: int
    dimensions: tuple[int, ...]


FULL = Size(samples=128, seeds=128, dimensions=(512, 2048, 4096))
QUICK = Size(samples=8, seeds=4, dimensions=(16,))


@dataclass(frozen=True, slots=True)
class _Layer:
    """One layer's factors, of gradients scaled to length 1: g (n, 1, outputs), a (n, 1, inputs), float64."""

    name: str
    g: Tensor
    a: Tensor


def measure(is_quick: bool) -> Report:
    """For every k the ratio of errors, the worst seed, and the bias of inner products."""
    size = QUICK if is_quick else FULL
    workload = toy(size.samples, SEED) if is_quick else alexnet_on_digits(size.samples, SEED, is_trained=True)
    layers = _unit_factors(workload)
    exact = _inner_products(layers)
    measurements: list[Measurement] = []
    for dimension in size.dimensions:
        _require_the_engines_map(workload, layers, dimension)
        measurements += _at(dimension, layers, exact, size.seeds)
    return Report(
        name="projection_quality",
        question=f"cosine error ÷ a dense Gaussian's, {size.samples} gradients, {size.seeds} seeds",
        spread="95 % of bootstraps over seeds",
        seed=SEED,
        is_quick=is_quick,
        measurements=measurements,
    )


def _at(
    dimension: int, layers: tuple[_Layer, ...], exact: NDArray[np.float64], seeds: int
) -> Iterator[Measurement]:
    generator = np.random.default_rng(SEED)
    ours = cosine_errors((_projected(layers, seed, dimension) for seed in range(seeds)), exact)
    dense = cosine_errors(gaussian_projections(exact, dimension, seeds, generator), exact)
    reference = float(np.sqrt(dense.squares.mean()))
    resampled = resampled_ratios(ours.squares, dense.squares, generator)
    facts = {
        "rmse": float(np.sqrt(ours.squares.mean())),
        "gaussian_rmse": reference,
        "one_over_sqrt_k": dimension**-0.5,
    }
    low, high = np.quantile(resampled, [0.025, 0.975])
    ratio = facts["rmse"] / reference
    yield Measurement(f"k = {dimension}", ratio, float(low), float(high), MEAN_TARGET, facts=facts)
    worst, gaussian_worst = (float(np.sqrt(errors.squares.max())) / reference for errors in (ours, dense))
    yield Measurement(
        f"k = {dimension}, worst seed (the Gaussian's own: {gaussian_worst:.2f})", worst, target=WORST_TARGET
    )
    bias, error = float(ours.biases.mean()), float(ours.biases.std(ddof=1) / np.sqrt(seeds))
    yield Measurement(
        f"k = {dimension}, |mean error of inner products| in standard errors",
        abs(bias) / error,
        target=BIAS_TARGET,
        facts={"mean_error": bias, "standard_error": error},
    )


def _unit_factors(workload: Workload) -> tuple[_Layer, ...]:
    """Both layers' output gradients and inputs, by autograd in float64, scaled to gradients of length 1."""
    first, activation, second = (module.double() for module in workload.head)
    inputs = workload.head_inputs.double()
    hidden = first(inputs)
    activated = activation(hidden.clone())  # it writes in place
    logits = second(activated)
    g_hidden, g_logits = torch.autograd.grad(cross_entropy(logits, workload.labels).sum(), [hidden, logits])
    pairs = [(g_hidden, inputs), (g_logits, activated.detach())]
    squares = torch.stack([g.square().sum(1) * (a.square().sum(1) + 1) for g, a in pairs]).sum(0)
    assert bool((squares > 0).all()), "a gradient is zero: it has no direction"
    scale = squares.rsqrt()[:, None]
    return tuple(
        _Layer(name, (g * scale)[:, None], a[:, None])
        for name, (g, a) in zip(workload.chosen, pairs, strict=True)
    )


def _inner_products(layers: tuple[_Layer, ...]) -> NDArray[np.float64]:
    """The exact Gram matrix (n, n) of all gradients, biases included; ones on the diagonal."""
    parts = [(layer.g[:, 0] @ layer.g[:, 0].T) * (layer.a[:, 0] @ layer.a[:, 0].T + 1) for layer in layers]
    return np.asarray(torch.stack(parts).sum(0))


def _projected(layers: tuple[_Layer, ...], seed: int, dimension: int) -> NDArray[np.float64]:
    """Our map of one seed: (n, k)."""
    sketch = Sketch(seed, dimension, torch.device("cpu"))
    vectors = []
    for layer in layers:
        outputs, inputs = layer.g.shape[2], layer.a.shape[2]
        weight = sketch.parameter(f"{layer.name}.weight", (outputs, inputs))
        vectors.append(torch.fft.irfft(weight.outer_spectrum(layer.g, layer.a), n=dimension))
        vectors.append(sketch.parameter(f"{layer.name}.bias", (outputs,)).vector(layer.g[:, 0]))
    return np.asarray(torch.stack(vectors).sum(0))


def _require_the_engines_map(workload: Workload, layers: tuple[_Layer, ...], dimension: int) -> None:
    engine = Deduplicator(workload.model, CHOSEN_LAYERS, dimension=dimension, seed=SEED, device="cpu")
    expected = _projected(layers, SEED, dimension)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    worst = float(np.abs(engine.project(workload.inputs, workload.labels).vectors - expected).max())
    assert worst <= _TOLERANCE, f"the engine's vectors differ by {worst:.1e}: another map would be measured"


if __name__ == "__main__":
    as_command([measure], "How well the compression keeps cosines, beside a dense Gaussian map.")()
