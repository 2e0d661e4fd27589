"""Rows and queries in low precision (bf16, or int8 with one scale a row), and what their products can miss.

A rounded row û of a row u carries ‖u − û‖, so the similarity of u with a query q, rounded to q̂, lies in a band that is known:

    |⟨q, u⟩ − ⟨q̂, û⟩| = |⟨q − q̂, u⟩ + ⟨q̂, u − û⟩| ≤ ‖q − q̂‖·‖u‖ + ‖q̂‖·‖u − û‖.

The device computes p for ⟨q̂, û⟩, and here is what it may lose. With ν = 1 + 2·NORM_TOLERANCE for the norms of accepted rows:

1.  Every term q̂ᵢ·ûᵢ is a product of two numbers of 8 significant bits (bf16 has 8; an int8 number is at most 127, and its
    scale is applied to the sum). It is exact in float32.
2.  Terms are added in float32 in any order and grouping, that is in a tree of additions. *Assumption:* an addition of c numbers
    loses at most c·2⁻²³ of Σ|q̂ᵢ·ûᵢ| and of what was lost before it. Rounding to nearest loses less (2⁻²⁴, c = 2), so does cutting
    off (2⁻²³). A tensor core aligns all c to the greatest, cuts the c − 1 others off at 24 bits, and then the sum: c·2⁻²³
    (Fasi, Higham, Mikaitis, Pranesh, Numerical behavior of NVIDIA tensor cores, PeerJ Computer Science 7, 2021). All additions
    together take in fewer than 2·k numbers. So the sum is off by α·Σ|q̂ᵢ·ûᵢ| ≤ α·‖q̂‖·‖û‖ at most, with
    α = k·2⁻²² / (1 − k·2⁻²²): four times what rounding to nearest would lose.
3.  Multiplying by a scale loses 2⁻²⁴ of the product; a device that writes its products as bf16 loses 2⁻⁸ of them more.
    With what 2 and 3 lose together called λ (`Arithmetic.loss`), |p − ⟨q̂, û⟩| ≤ λ·‖q̂‖·‖û‖, and ‖û‖ ≤ ν + ‖u − û‖.
4.  Numbers that a device takes for zero because they are below 2⁻¹²⁶ move a product by k·2⁻¹²⁴ at most; the similarity
    itself is a float64 sum, off by γ(k, 2⁻⁵³)·ν².

So a row's share of the band is slack(u) = ‖u − û‖ + λ·(ν + ‖u − û‖), a query's is slack(q) = ‖q − q̂‖·ν and all of 4, and

    |similarity(q, u) − p| ≤ ‖q̂‖·slack(u) + slack(q).

Distances are computed in float64 and rounded up to float32. Sums of p and such terms in float32 stay below 4, so three operations lose
2⁻²⁰ at most, which is part of slack(q). `device_trial` and every scan compare a device with the assumption in 2.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dugs_stream.core.index.similarity import NORM_TOLERANCE

Format = Literal["bf16", "int8"]
"""How rows lie on the device: 2·k bytes a row, or k and a wider band."""

NORM = 1 + 2 * NORM_TOLERANCE
"""ν: no accepted row is longer."""

ROUNDING = 2.0**-20
"""What three operations in float32 on numbers below 4 lose, with room to spare."""

_TERM = 2.0**-22
_BFLOAT16 = 2.0**-8
# A float64 sum of up to 2²² squares, and its root, are sure to this share.
_DISTANCE = 1 + 2.0**-29
_LARGEST_DIMENSION = 2**20
_GREATEST_INT8 = 127


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """What a device loses in products of k terms.

    dimension      k, at most 2²⁰
    writes_bfloat  whether a product of bf16 numbers comes out as bf16, not as float32
    """

    dimension: int
    writes_bfloat: bool

    def __post_init__(self) -> None:
        if self.dimension > _LARGEST_DIMENSION:
            raise ValueError(f"rows of {self.dimension} numbers, expected {_LARGEST_DIMENSION} at most")

    @property
    def sum_loss(self) -> float:
        """α: share of Σ|q̂ᵢ·ûᵢ| that a sum can lose."""
        return self.dimension * _TERM / (1 - self.dimension * _TERM)

    @property
    def loss(self) -> float:
        """λ: share of ‖q̂‖·‖û‖ that a product can lose."""
        written = _BFLOAT16 * (1 + self.sum_loss) if self.writes_bfloat else 0.0
        return self.sum_loss + written + 2.0**-23

    @property
    def underflow(self) -> float:
        """What numbers below 2⁻¹²⁶ can move a product by."""
        return self.dimension * 2.0**-124

    @property
    def similarity_loss(self) -> float:
        """What a float64 sum of the products of two accepted rows can miss, in any order."""
        terms = self.dimension * 2.0**-53
        return terms / (1 - terms) * NORM**2


def arithmetic_of(device: torch.device, dimension: int) -> Arithmetic:
    """CUDA multiplies bf16 into float32; a CPU writes bf16."""
    return Arithmetic(dimension, writes_bfloat=device.type != "cuda")


def bfloat_products(queries: Tensor, rows: Tensor) -> Tensor:
    """Every query (m, k) with every row (n, k), both bf16 → (m, n) float32, off by `Arithmetic.loss` at most."""
    if queries.device.type == "cuda":
        return torch.mm(queries, rows.T, out_dtype=torch.float32)
    return (queries @ rows.T).float()


@dataclass(frozen=True, slots=True)
class LowRows:
    """Rounded rows on a device.

    numbers  (n, k) bf16 or int8
    scales   (n,) float32 by which int8 numbers are multiplied; None for bf16
    slack    (n,) float32, see above
    """

    numbers: Tensor
    scales: Tensor | None
    slack: Tensor


def round_rows(rows: Tensor, kind: Format, arithmetic: Arithmetic) -> LowRows:
    """Unit rows (n, k) float32 in low precision, on the device where they lie. Takes 16·n·k bytes meanwhile."""
    if kind == "bf16":
        numbers, scales = rows.bfloat16(), None
        rounded = numbers.double()
    else:
        scales = rows.abs().amax(dim=1) / _GREATEST_INT8
        numbers = (rows / scales[:, None]).round_().clamp_(-_GREATEST_INT8, _GREATEST_INT8).to(torch.int8)
        rounded = numbers.double().mul_(scales.double()[:, None])
    rest = _distances(rows, rounded)
    return LowRows(numbers, scales, rounded_up(rest + arithmetic.loss * (NORM + rest)))


@dataclass(frozen=True, slots=True)
class LowQueries:
    """Rounded queries on a device.

    numbers  (m, k) bf16
    length   (m,) float32, ‖q̂‖ rounded up
    slack    (m,) float32, see above
    full     (m, k) float32, as they were asked
    """

    numbers: Tensor
    length: Tensor
    slack: Tensor
    full: Tensor

    def of(self, which: Tensor) -> "LowQueries":
        """Those numbered `which` (p,)."""
        return LowQueries(self.numbers[which], self.length[which], self.slack[which], self.full[which])


def round_queries(queries: Tensor, arithmetic: Arithmetic) -> LowQueries:
    """Unit rows (m, k) float32 in bf16, on the device where they lie."""
    numbers = queries.bfloat16()
    rounded = numbers.double()
    length = rounded_up(rounded.square().sum(dim=1).sqrt_() * _DISTANCE)
    always = ROUNDING + arithmetic.underflow + arithmetic.similarity_loss
    slack = rounded_up(_distances(queries, rounded) * NORM + always)
    return LowQueries(numbers, length, slack, queries)


def rounded_up(values: Tensor) -> Tensor:
    """float32 values that are never below the float64 `values`."""
    return torch.nextafter(
        values.float(), torch.full((), torch.inf, dtype=torch.float32, device=values.device)
    )


def _distances(rows: Tensor, rounded: Tensor) -> Tensor:
    """‖u − û‖ of each row (n,) float64, never too small; `rounded` is overwritten."""
    return rounded.sub_(rows).square_().sum(dim=1).sqrt_().mul_(_DISTANCE)
