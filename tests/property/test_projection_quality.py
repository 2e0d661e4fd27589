"""Cosine error of the sketch on gradients of a small classifier: that of a dense Gaussian map, over 64 seeds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from dugs_stream.core.sketch.count_sketch import Sketch

SEEDS = 64
SAMPLES = 40


@pytest.fixture(scope="module")
def factors() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Output gradients and activations of both layers of a small classifier after a little training."""
    torch.manual_seed(0)
    centres = torch.randn(10, 64)
    labels = torch.arange(400) % 10
    inputs = (centres[labels] + 1.5 * torch.randn(400, 64)).relu()
    first, second = nn.Linear(64, 48), nn.Linear(48, 10)
    optimiser = torch.optim.Adam([*first.parameters(), *second.parameters()], lr=3e-3)
    for _ in range(60):
        loss = nn.functional.cross_entropy(second(first(inputs).relu()), labels)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimiser.step()
    some = slice(0, SAMPLES)
    hidden = first(inputs[some])
    activated = hidden.relu()
    logits = second(activated)
    losses = nn.functional.cross_entropy(logits.double(), labels[some], reduction="sum")
    g_hidden, g_logits = torch.autograd.grad(losses, [hidden, logits])
    pairs = [(g_hidden, inputs[some]), (g_logits, activated.detach())]
    return [(g.double()[:, None], a.double()[:, None]) for g, a in pairs]


def gram(factors: list[tuple[torch.Tensor, torch.Tensor]]) -> NDArray[np.float64]:
    """Exact inner products of the weight gradients: Σ over layers ⟨g, g′⟩⟨a, a′⟩."""
    total = sum((g[:, 0] @ g[:, 0].T) * (a[:, 0] @ a[:, 0].T) for g, a in factors)
    assert isinstance(total, torch.Tensor)
    return total.numpy()


def projected(
    factors: list[tuple[torch.Tensor, torch.Tensor]], seed: int, dimension: int
) -> NDArray[np.float64]:
    sketch = Sketch(seed, dimension, torch.device("cpu"))
    total = torch.zeros(SAMPLES, dimension // 2 + 1, dtype=torch.complex128)
    for layer, (g, a) in enumerate(factors):
        total += sketch.parameter(f"{layer}.weight", (g.shape[2], a.shape[2])).outer_spectrum(g, a)
    return np.asarray(torch.fft.irfft(total, n=dimension))


def cosines(products: NDArray[np.float64]) -> NDArray[np.float64]:
    norms = np.sqrt(np.diag(products))
    pairs = np.triu_indices(SAMPLES, 1)
    return np.asarray((products / np.outer(norms, norms))[pairs])


def test_inner_products_of_gradients_are_unbiased(factors: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """The mean error over 64 seeds, each pair in units of the two norms, is zero within 4 standard errors."""
    exact = gram(factors)
    norms = np.sqrt(np.diag(exact))
    means = []
    for seed in range(SEEDS):
        vectors = projected(factors, seed, 256)
        means.append(np.mean((vectors @ vectors.T - exact) / np.outer(norms, norms)))

    assert abs(np.mean(means)) <= 4 * np.std(means) / np.sqrt(SEEDS)


@pytest.mark.parametrize("dimension", [64, 256])
def test_cosine_error_is_near_that_of_a_dense_gaussian_map(
    factors: list[tuple[torch.Tensor, torch.Tensor]], dimension: int
) -> None:
    """Root mean square over pairs and 64 seeds ≤ 1.15 × the Gaussian's, the worst seed ≤ 1.5 × its mean.

    The Gaussian's projections of n gradients are, in law, L·N(0, 1) with L·Lᵀ the exact Gram matrix.
    """
    exact = gram(factors)
    spectrum, basis = np.linalg.eigh(exact)
    root = basis * np.sqrt(np.maximum(spectrum, 0))
    generator = np.random.default_rng(0)
    ours, gaussian = [], []
    for seed in range(SEEDS):
        vectors = projected(factors, seed, dimension)
        ours.append(np.mean((cosines(vectors @ vectors.T) - cosines(exact)) ** 2))
        dense = root @ generator.standard_normal((SAMPLES, dimension))
        gaussian.append(np.mean((cosines(dense @ dense.T) - cosines(exact)) ** 2))

    assert np.sqrt(np.mean(ours)) <= 1.15 * np.sqrt(np.mean(gaussian))
    assert np.sqrt(np.max(ours)) <= 1.5 * np.sqrt(np.mean(gaussian))
