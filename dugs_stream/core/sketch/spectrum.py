"""Half spectra of real vectors, and their products with the same bits at every place of a batch."""

import torch
from torch import Tensor

from dugs_stream.core.sketch.axis import pairwise_sum

_VECTOR = 16
"""Complex numbers in one turn of PyTorch's vectorised loops on the widest CPU (AVX-512)."""

_ONE_THREAD = 1 << 15
"""PyTorch splits no elementwise operation of up to 32 768 numbers among threads."""


def summed_products(left: Tensor, right: Tensor) -> Tensor:
    """Σ_t of products of half spectra, (m, t, f) complex × (m, t, f) complex → (m, f).

    On a CPU a vectorised complex product rounds each step, and the scalar one of a loop's last numbers fuses them: the bits
    would depend on the place. So whole vectors are multiplied apart from the rest of each row, in one thread.
    """
    m, t, f = left.shape
    if left.device.type != "cpu":
        return pairwise_sum(left * right, axis=1)
    positions = min(t, max(1, _ONE_THREAD // f))
    samples = max(1, _ONE_THREAD // (positions * f))
    total = left.new_zeros(m, f)
    for start in range(0, m, samples):
        own = slice(start, start + samples)
        for first in range(0, t, positions):
            some = slice(first, first + positions)
            total[own] += pairwise_sum(_products(left[own, some], right[own, some]), axis=1)
    return total


def _products(left: Tensor, right: Tensor) -> Tensor:
    """Elementwise, (…, f) complex each, at most `_ONE_THREAD` numbers or one row."""
    products = torch.empty_like(left, memory_format=torch.contiguous_format)
    f = left.shape[-1]
    whole = f - f % _VECTOR
    for start in range(0, whole, _ONE_THREAD):
        some = slice(start, min(start + _ONE_THREAD, whole))
        torch.mul(left[..., some], right[..., some], out=products[..., some])
    torch.mul(left[..., whole:], right[..., whole:], out=products[..., whole:])
    return products
