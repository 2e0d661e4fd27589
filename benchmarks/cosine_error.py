"""Error of cosines under a map, and what a dense Gaussian map would make of the same gradients.

A dense Gaussian needs no matrix of parameters by k: its projections of n gradients are, in law, L·N(0, 1) with L·Lᵀ
their n × n Gram matrix. Knows nothing of dugs-stream: the peers' environment imports this module, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_RESAMPLES = 2_000  # of the bootstrap: the ends of a 95 % interval stand on 50 resamples each


@dataclass(frozen=True, slots=True)
class Errors:
    """Over seeds: mean square error of the cosines (seeds,), mean error of the inner products (seeds,)."""

    squares: NDArray[np.float64]
    biases: NDArray[np.float64]

    @property
    def rmse(self) -> float:
        """Root mean square error of a cosine, over pairs and seeds."""
        return float(np.sqrt(self.squares.mean()))


def gaussian_projections(
    exact: NDArray[np.float64], dimension: int, seeds: int, generator: np.random.Generator
) -> Iterator[NDArray[np.float64]]:
    """What dense Gaussian maps make of gradients with these inner products (n, n): (n, k) for each seed."""
    spectrum, basis = np.linalg.eigh(exact)
    root = basis * np.sqrt(np.maximum(spectrum, 0))  # rounding leaves eigenvalues a hair below zero
    for _ in range(seeds):
        yield root @ generator.standard_normal((len(exact), dimension)) / np.sqrt(dimension)


def cosine_errors(projections: Iterable[NDArray[np.float64]], exact: NDArray[np.float64]) -> Errors:
    """Each projection (n, k) of the same gradients, held against their exact inner products (n, n), ones on the diagonal."""
    pairs = np.triu_indices(len(exact), 1)
    squares, biases = [], []
    for vectors in projections:
        products = vectors @ vectors.T
        squares.append(np.mean((cosines(products) - exact)[pairs] ** 2))
        biases.append(np.mean((products - exact)[pairs]))
    return Errors(np.array(squares), np.array(biases))


def resampled_ratios(
    ours: NDArray[np.float64], dense: NDArray[np.float64], generator: np.random.Generator
) -> NDArray[np.float64]:
    """The ratio of root mean squares for seeds drawn again with replacement, both maps' independently."""
    drawn = [
        errors[generator.integers(len(errors), size=(_RESAMPLES, len(errors)))].mean(1)
        for errors in (ours, dense)
    ]
    return np.asarray(np.sqrt(drawn[0] / drawn[1]))


def cosines(products: NDArray[np.float64]) -> NDArray[np.float64]:
    """The cosines (n, n) of vectors with these inner products."""
    lengths = np.sqrt(np.diag(products))
    return products / np.outer(lengths, lengths)
