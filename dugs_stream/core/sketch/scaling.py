"""Scaling by powers of two, one exponent a sample, so that float32 products neither underflow nor overflow.

Multiplying by a power of two is exact, so scaling loses nothing, for numbers from 1e-40 to 1e+38. All of it is
elementwise on one sample's values: NaN and infinity make the norm of their own sample, and of no other, NaN or infinite.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

NOTHING = -100_000
"""The exponent of a sample that is all zero: below every real one, so that it never sets the scale."""

_LEAST_SUM = 2.0**-50
"""Sums from here on are right without exponents: float32 holds a number 2^-76 times as large, also as a product."""

_LEAST, _MOST = 2.0**-32, 2.0**32
"""Norms between which a sample's numbers are left as they are: products of two such factors are far from both ends."""

_BITS = {torch.float32: (torch.int32, 23, 127), torch.float64: (torch.int64, 52, 1023)}


def times_power_of_two(values: Tensor, exponents: Tensor) -> Tensor:
    """Values (m, …) × 2^exponents (m,) int32, a new tensor; exact if the result is a normal number.

    In two steps, since 2^200 is not a float32 although 1e-38 × 2^200 is one.
    """
    half = exponents.div(2, rounding_mode="floor")
    shape = (-1, *(1,) * (values.dim() - 1))
    first = _powers_of_two(half, values.dtype).view(shape)
    second = _powers_of_two(exponents - half, values.dtype).view(shape)
    return values.mul(first).mul_(second)


def magnitude_exponents(values: Tensor) -> Tensor:
    """For each sample of values (m, …) the e with max|values| < 2^e ≤ 2·max|values|, (m,) int32.

    `NOTHING` if all are zero or there are no values; 0 if one is not finite, so that it stays as it is.
    """
    rows = values.shape[0]
    if values.numel() == 0:
        return torch.full((rows,), NOTHING, dtype=torch.int32, device=values.device)
    # NaN stays NaN; a max-norm would say the same and takes 17 times as long at (64, 4096).
    largest = values.reshape(rows, -1).abs().amax(dim=1)
    exponents = torch.frexp(
        torch.where(torch.isfinite(largest), largest, torch.full_like(largest, 0.5))
    ).exponent
    return torch.where(largest == 0, torch.full_like(exponents, NOTHING), exponents).to(torch.int32)


def normalised(values: Tensor) -> tuple[Tensor, Tensor]:
    """(values × 2^−e, e) of values (m, …): e is 0 for a sample of ordinary size, which stays as it is.

    A sample whose norm lies outside of 2^−32 … 2^32 is brought to a largest magnitude in [½, 1). The result may be
    `values` itself.
    """
    rows = values.shape[0]
    # Where squares overflow or vanish the norm is infinite or 0, so outside as well.
    norms = torch.linalg.vector_norm(values.reshape(rows, -1), dim=1)
    if values.device.type == "cpu" and rows:
        least, most = (float(end) for end in torch.aminmax(norms))  # NaN if one is
        if least >= _LEAST and most <= _MOST:
            return values, torch.zeros(
                rows, dtype=torch.int32
            )  # × 2^0 changes nothing: a pass over memory less
    usual = (norms >= _LEAST) & (norms <= _MOST)
    exponents = magnitude_exponents(values)
    exponents = torch.where(usual, torch.zeros_like(exponents), exponents)
    return times_power_of_two(values, -exponents), exponents


def normalised_together(parts: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
    """As `normalised`, with one exponent e (m,) for all parts (m, …) of a sample."""
    rows = parts[0].shape[0]
    norms = torch.stack([torch.linalg.vector_norm(part.reshape(rows, -1), dim=1) for part in parts])
    largest = norms.amax(dim=0)
    usual = (largest >= _LEAST) & (largest <= _MOST)
    if largest.device.type == "cpu" and bool(usual.all()):
        return list(parts), torch.zeros(rows, dtype=torch.int32)
    exponents = torch.stack([magnitude_exponents(part) for part in parts]).amax(dim=0)
    exponents = torch.where(usual, torch.zeros_like(exponents), exponents)
    return [times_power_of_two(part, -exponents) for part in parts], exponents


class ScaledSum:
    """Σ of vectors v·2^e, each sample at the scale of its largest term.

    A plain one takes numbers as they are, with e = 0: that saves a pass over every factor, and is right for all samples
    but those that `unusual_rows` names afterwards.

    Terms are vectors (m, k), columns (k, m), or half spectra (m, k//2 + 1) of vectors; each form is added up apart, and
    one transposition and one inverse FFT at the end serve all of them.
    """

    def __init__(
        self,
        rows: int,
        dimension: int,
        dtype: torch.dtype,
        device: torch.device,
        *,
        is_plain: bool = False,
    ) -> None:
        self.dtype = dtype
        """The floating-point type that terms must have."""
        self.is_plain = is_plain
        self._shape = (rows, dimension)
        self._device = device
        self._nothing = torch.zeros(rows, dtype=torch.int32, device=device)
        self._exponents = self._nothing if is_plain else torch.full_like(self._nothing, NOTHING)
        self._vectors: Tensor | None = None  # (m, k)
        self._columns: Tensor | None = None  # (k, m)
        self._spectra: Tensor | None = None  # (m, k//2 + 1) complex
        self._total: tuple[Tensor, Tensor] | None = None

    def normalised(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """As the function of this name; in a plain sum the values as they are, with exponents of 0."""
        if self.is_plain and len(values) == len(self._nothing):
            return values, self._nothing
        return normalised(values)

    def add(self, vectors: Tensor, exponents: Tensor) -> None:
        """Add vectors (m, k) × 2^exponents (m,)."""
        scaled = self._at_common_scale(vectors, exponents)  # first: it may rescale the sum
        self._vectors = scaled if self._vectors is None else self._vectors.add_(scaled)

    def add_few(self, buckets: Tensor, values: Tensor, exponents: Tensor) -> None:
        """Add values (m, d) × 2^exponents (m,) to these buckets (d,), of which none is named twice."""
        rows, dimension = self._shape
        if self._vectors is None or self._exponents is not self._nothing:
            vectors = values.new_zeros(rows, dimension).index_add_(1, buckets, values)
            self.add(vectors, exponents)
        else:
            self._vectors.index_add_(1, buckets, values)

    def add_columns(self, columns: Tensor, exponents: Tensor) -> None:
        """Add the vectors that are the columns of (k, m), × 2^exponents (m,)."""
        scaled = self._at_common_scale(columns.t(), exponents).t()
        self._columns = scaled if self._columns is None else self._columns.add_(scaled)

    def add_spectra(self, spectra: Tensor, exponents: Tensor) -> None:
        """Add vectors × 2^exponents (m,), given by their half spectra (m, k//2 + 1)."""
        scaled = torch.view_as_complex(self._at_common_scale(torch.view_as_real(spectra), exponents))
        self._spectra = scaled if self._spectra is None else self._spectra.add_(scaled)

    def total(self) -> tuple[Tensor, Tensor]:
        """(vectors (m, k), exponents (m,)): the sum is vectors·2^exponents, zeros if nothing was added."""
        if self._total is None:
            self._total = self._added_up(), self._exponents
        return self._total

    def unusual_rows(self) -> Tensor | None:
        """Which samples (m,) of a plain sum must be computed again with exponents, as a mask; None if none.

        Their numbers are so small that products may have vanished, so large that one may not be finite, or zero. Of all
        others the least number that counts is far above the smallest float32. Each sample decides for itself alone.
        """
        norms = torch.linalg.vector_norm(self.total()[0], dim=1)
        unusual = ~((norms >= _LEAST_SUM) & (norms <= _MOST))  # NaN is unusual
        return unusual if bool(unusual.any()) else None

    def with_rows(self, other: "ScaledSum", which: Tensor) -> "ScaledSum":
        """The same with the samples of the mask `which` (m,) from another sum."""
        (own, exponents), (vectors, others) = self.total(), other.total()
        self._total = torch.where(which[:, None], vectors, own), torch.where(which, others, exponents)
        return self

    def _added_up(self) -> Tensor:
        parts = []
        if self._spectra is not None:
            parts.append(torch.fft.irfft(self._spectra, n=self._shape[1]))
        if self._columns is not None:
            parts.append(self._columns.t().contiguous())
        if self._vectors is not None:
            parts.append(self._vectors)
        if not parts:
            return torch.zeros(self._shape, dtype=self.dtype, device=self._device)
        total: Tensor = parts[0]
        for part in parts[1:]:
            total += part
        return total

    def _at_common_scale(self, term: Tensor, exponents: Tensor) -> Tensor:
        if self._exponents is exponents:
            return term
        if term.device.type == "cpu" and torch.equal(self._exponents, exponents):
            return term  # × 2^0
        raised = torch.maximum(self._exponents, exponents)
        if not self.is_plain and self._vectors is self._columns is self._spectra is None:
            self._exponents = raised
            return term  # below the least exponent are only zeros
        by = self._exponents - raised
        if self._vectors is not None:
            self._vectors = times_power_of_two(self._vectors, by)
        if self._columns is not None:
            self._columns = times_power_of_two(self._columns.t(), by).t()
        if self._spectra is not None:
            scaled = times_power_of_two(torch.view_as_real(self._spectra), by)
            self._spectra = torch.view_as_complex(scaled)
        self._exponents = raised
        return times_power_of_two(term, exponents - raised)


def _powers_of_two(exponents: Tensor, dtype: torch.dtype) -> Tensor:
    """2^exponents by writing the exponent bits: exact on every device, which a pow() need not be."""
    integer, mantissa_bits, bias = _BITS[dtype]
    limited = exponents.clamp(1 - bias, bias).to(integer)
    return ((limited + bias) << mantissa_bits).view(dtype)
