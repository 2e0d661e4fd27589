"""Directions for a certified prefix: found from rows and queries, and as many as pay.

The directions of most energy among a sample of the list and of what was asked lately, by subspace iteration; how many of
them to keep comes from counting, on the same sample, how many rows each number would leave to be computed in full. Which
directions these are decides speed alone.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dugs_stream.core.index.costs import pair_cost, prefix_cost, product_cost, sparse_cost
from dugs_stream.core.index.prefix import PrefixBasis

# Fewer bound too little, more are hardly shorter than the rows of k = 512. With its rest a prefix row then fills whole
# vector registers; one number more would cost a sparse product a third.
_LENGTHS = (15, 31, 47, 63, 95, 127)
# More directions than the prefix keeps, so that those it keeps have settled after few rounds.
_SPARE_DIRECTIONS = 16
_ROUNDS = 4
# A prefix must promise to spare a fifth: it costs memory, and the sample may flatter it.
_WORTH_IT = 0.8
# Of the rows, groups leave 1 to 5 in a hundred to be bounded by their prefix on the lists measured.
_SHARE_IN_GROUPS = 0.05


@dataclass(frozen=True, slots=True)
class Sample:
    """What a fit sees of a list and of its traffic.

    rows     (s, k) float32 rows of the list
    queries  (m, k) float32 queries asked lately
    levels   (m,) float64, what a row's similarity had to reach to matter to each query
    """

    rows: NDArray[np.float32]
    queries: NDArray[np.float32]
    levels: NDArray[np.float64]


def fitted_basis(sample: Sample) -> PrefixBasis | None:
    """The basis of the length that costs least on the sample; None if it would not pay even without groups.

    O(s·k·d) time for s sampled rows.
    """
    dimension = sample.rows.shape[1]
    lengths = [length for length in _LENGTHS if length <= dimension // 4]
    if not lengths or not len(sample.queries) or not len(sample.rows):
        return None
    directions = _main_directions(sample, min(lengths[-1] + _SPARE_DIRECTIONS, dimension))
    shares = [surviving_share(sample, directions[:, :length]) for length in lengths]
    left = [share * pair_cost(dimension) for share in shares]
    costs = [
        _SHARE_IN_GROUPS * sparse_cost(length) + rest for length, rest in zip(lengths, left, strict=True)
    ]
    best = int(np.argmin(costs))
    if prefix_cost(lengths[best]) + left[best] > _WORTH_IT * product_cost(dimension):
        return None
    return PrefixBasis(directions[:, : lengths[best]])


def second_basis(sample: Sample, first: int) -> PrefixBasis | None:
    """The longest basis, for what a prefix of `first` directions leaves; None if it is not twice as long."""
    dimension = sample.rows.shape[1]
    length = max((length for length in _LENGTHS if length <= dimension // 4), default=0)
    if length < 2 * first:
        return None
    return PrefixBasis(_main_directions(sample, min(length + _SPARE_DIRECTIONS, dimension))[:, :length])


def surviving_share(sample: Sample, directions: NDArray[np.float64]) -> float:
    """Share of the pairs of a query and a row that a prefix of these directions leaves to be computed in full."""
    queries, rows = sample.queries @ directions, sample.rows @ directions
    rest = _rest(sample.queries, queries)[:, None] * _rest(sample.rows, rows)
    return float(np.mean(queries @ rows.T + rest >= sample.levels[:, None]))


def _rest(rows: NDArray[np.float32], coordinates: NDArray[np.float64]) -> NDArray[np.float64]:
    squares = np.einsum("nk,nk->n", rows, rows, dtype=np.float64) - np.square(coordinates).sum(axis=1)
    rest: NDArray[np.float64] = np.sqrt(np.maximum(squares, 0))
    return rest


def _main_directions(sample: Sample, count: int) -> NDArray[np.float64]:
    """Orthonormal columns (k, count), by falling energy: the same for the same sample."""
    rows = np.concatenate([sample.rows, sample.queries])
    start = np.random.default_rng(0).standard_normal((rows.shape[1], count))
    directions = np.linalg.qr(start)[0]
    for _ in range(_ROUNDS):
        product = rows.T @ (rows @ directions.astype(np.float32))
        directions = np.linalg.qr(product.astype(np.float64))[0]
    coordinates = rows @ directions.astype(np.float32)
    _, turn = np.linalg.eigh((coordinates.T @ coordinates).astype(np.float64))
    return np.linalg.qr(directions @ turn[:, ::-1])[0]
