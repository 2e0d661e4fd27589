"""Certified prefix: a short row that bounds every inner product of a long one from above.

Let E (k, d) have nearly orthonormal columns, and let Q be the nearest matrix whose columns are exactly orthonormal. For
any x and u, by Pythagoras and Cauchy-Schwarz,

    ⟨x, u⟩ = ⟨Qᵀx, Qᵀu⟩ + ⟨x − QQᵀx, u − QQᵀu⟩ ≤ ⟨Qᵀx, Qᵀu⟩ + t(x)·t(u),    t(x)² = ‖x‖² − ‖Qᵀx‖².

So the rows [Qᵀx, t(x)] of length d + 1 have inner products that bound the true ones. We store [Eᵀx, t] in float32, with t
rounded up, and `PrefixBasis.margin` covers all that this and a float32 product can lose:

    similarity(x, u) ≤ float32 product of the two prefix rows + margin.

It holds for any E with the defect measured here; how well E fits the list decides speed alone. With ν = 1 + 2·NORM_TOLERANCE
for the norms of accepted rows, δ for the Frobenius norm of EᵀE − I, and γ(n, u) = n·u / (1 − n·u) for sums of n terms
in any order (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., § 3.1):

1.  The singular values of E lie in [√(1 − δ), √(1 + δ)], so ‖E − Q‖ ≤ δ. Coordinates computed in float64 miss Qᵀx by
    at most η·ν in norm, η = δ + 2·√d·γ(k, 2⁻⁵³). δ is itself computed, so d·γ(k, 2⁻⁵³)·2 is added to it.
2.  Rounding them to float32 adds at most 2⁻²⁴·(1 + η)·ν + √d·2⁻¹⁴⁹. Call the sum of both ρ.
3.  t² computed in float64 misses the true one by at most 8·η: η contains more than γ(k, 2⁻⁵³). So t = √(max(0, t²) + 8·η),
    rounded up to float32, is never below the true one, and nothing is lost by subtraction.
4.  Rounded coordinates move their inner product by at most ρ·(2·ν + 2·ρ), for either row is at most ν + ρ long.
5.  A float32 product of the prefix rows adds γ(d + 1, 2⁻²⁴) times both norms, each at most 1.01, and (d + 1)·2⁻¹²⁶ for what
    underflows; the similarity itself is a float64 sum, off by γ(k, 2⁻⁵³)·ν².
"""

import hashlib
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from dugs_stream.core.index.files import StoredPrefix
from dugs_stream.core.index.products import tensor_of
from dugs_stream.core.index.rows import Rows
from dugs_stream.core.index.similarity import NORM_TOLERANCE

# 4 096 rows of k = 2 048 are 64 MiB in float64.
_ROWS_AT_ONCE = 4_096

# QR leaves about 1e-14; anything near this bound was damaged or is not a basis.
_GREATEST_DEFECT = 1e-9

_SINGLE, _DOUBLE = 2.0**-24, 2.0**-53


class PrefixBasis:
    """d directions of a k-dimensional space, with what their products can miss.

    vectors  (k, d) float64, orthonormal columns but for rounding; ValueError otherwise
    """

    def __init__(self, vectors: NDArray[np.float64]) -> None:
        self.vectors = np.array(vectors, dtype=np.float64, order="C")
        self._directions = torch.from_numpy(self.vectors)
        dimension, prefix = self.vectors.shape
        with np.errstate(all="ignore"):  # a damaged basis overflows, and is refused in the next line
            defect = float(np.linalg.norm(self.vectors.T @ self.vectors - np.eye(prefix)))
        if not defect <= _GREATEST_DEFECT:
            raise ValueError(f"the columns of a basis miss orthonormality by {defect:.3g}")
        rounding = _gamma(dimension, _DOUBLE)
        norm = 1 + 2 * NORM_TOLERANCE
        eta = defect + 2 * prefix * rounding + 2 * np.sqrt(prefix) * rounding
        rho = eta * norm + _SINGLE * (1 + eta) * norm + np.sqrt(prefix) * 2.0**-149
        self.tail_slack = 8 * eta
        """What is added under the root of a tail: see 3."""
        self.margin = (
            rho * (2 * norm + 2 * rho)
            + 1.01**2 * _gamma(prefix + 1, _SINGLE)
            + (prefix + 1) * 2.0**-126
            + norm**2 * rounding
        )

    @property
    def dimension(self) -> int:
        """k, the length of the rows that it takes."""
        return int(self.vectors.shape[0])

    @property
    def length(self) -> int:
        """d, the number of directions; a prefix row has one entry more."""
        return int(self.vectors.shape[1])

    @property
    def digest(self) -> str:
        """SHA-256 of the directions, 64 hex digits: tells rows of one basis from those of another."""
        return hashlib.sha256(self.vectors.astype("<f8").tobytes()).hexdigest()

    def prefix_rows(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """[Eᵀx, t(x)] of each row: (n, k) float32 unit rows → (n, d + 1) float32."""
        answer = np.empty((len(rows), self.length + 1), dtype=np.float32)
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            stop = min(start + _ROWS_AT_ONCE, len(rows))
            part = tensor_of(rows[start:stop]).double()
            coordinates = part @ self._directions
            rest = part.square_().sum(dim=1) - coordinates.square().sum(dim=1)
            tail = rest.clamp_(min=0).add_(self.tail_slack).sqrt_().numpy().astype(np.float32)
            answer[start:stop, :-1] = coordinates.numpy()
            answer[start:stop, -1] = np.nextafter(tail, np.float32(np.inf))
        return answer


def _gamma(terms: int, rounding: float) -> float:
    return terms * rounding / (1 - terms * rounding)


class Prefix:
    """The prefix rows of the first rows of a list, in the same order; append-only like the list.

    Memory: 4·n·(d + 1) bytes.
    """

    def __init__(self, basis: PrefixBasis, rows: Rows | None = None) -> None:
        self.basis = basis
        self.rows = Rows(basis.length + 1) if rows is None else rows

    @classmethod
    def restored(cls, basis_vectors: NDArray[np.float64], rows: Rows) -> Self:
        """A prefix of an earlier run. Raises ValueError unless the basis is one and the rows have its length."""
        basis = PrefixBasis(basis_vectors)
        if rows.dimension != basis.length + 1:
            raise ValueError(
                f"prefix rows of length {rows.dimension} to a basis of {basis.length}, expected one more"
            )
        return cls(basis, rows)

    @property
    def stored(self) -> StoredPrefix:
        """What a file holds of it: see `restored`."""
        return StoredPrefix(self.basis.vectors, self.rows)

    def follow(self, rows: Rows) -> None:
        """Append the prefix rows of those in `rows` that it does not cover yet."""
        for _, block in rows.blocks(_ROWS_AT_ONCE, start=len(self.rows)):
            self.rows.add(self.basis.prefix_rows(block))

    def energy(self, rows: int = 4_096) -> float:
        """Share of the squared length of the latest rows that lies in the prefix, 0 … 1."""
        latest = self.rows.take(np.arange(max(0, len(self.rows) - rows), len(self.rows), dtype=np.int64))
        return 1.0 - float(np.mean(latest[:, -1].astype(np.float64) ** 2)) if len(latest) else 0.0
