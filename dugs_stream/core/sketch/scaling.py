"""Scaling by powers of two, one exponent a sample, so that float32 products neither underflow nor overflow.

Multiplying by a power of two is exact, so scaling loses nothing, for numbers from 1e-40 to 1e+38. All of it is
elementwise on one sample's values: NaN and infinity make the norm of their own sample, and of no other, NaN or infinite.
"""

import torch
from torch import Tensor

NOTHING = -100_000
"""The exponent of a sample that is all zero: below every real one, so that it never sets the scale."""

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
    """(values × 2^−e, e) of values (m, …), with each sample's largest magnitude brought into [½, 1)."""
    exponents = magnitude_exponents(values)
    return times_power_of_two(values, -exponents), exponents


class ScaledSum:
    """Σ of vectors v·2^e, each sample at the scale of its largest term.

    Terms are vectors (m, k) or half spectra (m, 2, k//2 + 1) of vectors, real part first; spectra are added as
    they are, and one inverse FFT at the end serves all of them.
    """

    def __init__(self, rows: int, dimension: int, dtype: torch.dtype, device: torch.device) -> None:
        self._dimension = dimension
        self._exponents = torch.full((rows,), NOTHING, dtype=torch.int32, device=device)
        self._vectors = torch.zeros(rows, dimension, dtype=dtype, device=device)  # (m, k)
        self._spectra: Tensor | None = None  # (m, 2, k//2 + 1)

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type that terms must have."""
        return self._vectors.dtype

    def add(self, vectors: Tensor, exponents: Tensor) -> None:
        """Add vectors (m, k) × 2^exponents (m,)."""
        scaled = self._at_common_scale(vectors, exponents)  # first: it may rescale the sum
        self._vectors = self._vectors + scaled

    def add_spectra(self, spectra: Tensor, exponents: Tensor) -> None:
        """Add vectors × 2^exponents (m,), given by their spectra (m, 2, k//2 + 1)."""
        scaled = self._at_common_scale(spectra, exponents)
        self._spectra = scaled if self._spectra is None else self._spectra + scaled

    def total(self) -> tuple[Tensor, Tensor]:
        """The sum as vectors (m, k) and exponents (m,) int32: vector × 2^exponent."""
        vectors = self._vectors
        if self._spectra is not None:
            spectrum = torch.complex(self._spectra[:, 0].contiguous(), self._spectra[:, 1].contiguous())
            vectors = vectors + torch.fft.irfft(spectrum, n=self._dimension)
        return vectors, self._exponents

    def _at_common_scale(self, term: Tensor, exponents: Tensor) -> Tensor:
        raised = torch.maximum(self._exponents, exponents)
        self._vectors = times_power_of_two(self._vectors, self._exponents - raised)
        if self._spectra is not None:
            self._spectra = times_power_of_two(self._spectra, self._exponents - raised)
        self._exponents = raised
        return times_power_of_two(term, exponents - raised)


def _powers_of_two(exponents: Tensor, dtype: torch.dtype) -> Tensor:
    """2^exponents by writing the exponent bits: exact on every device, which a pow() need not be."""
    integer, mantissa_bits, bias = _BITS[dtype]
    limited = exponents.clamp(1 - bias, bias).to(integer)
    return ((limited + bias) << mantissa_bits).view(dtype)
