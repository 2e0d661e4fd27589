"""Half spectra of real vectors, and their products with the same bits at every place of a batch."""

import torch
from torch import Tensor

from dugs_stream.core.sketch.axis import pairwise_sum

_VECTOR = 16
"""Complex numbers in one turn of PyTorch's vectorised loops on the widest CPU (AVX-512)."""

_ONE_THREAD = 1 << 15
"""PyTorch splits no elementwise operation of up to 32 768 numbers among threads."""

_MANY = 16
"""Terms from which on one sum for each sample is quicker than halving them all."""


def summed_products(left: Tensor, right: Tensor) -> Tensor:
    """Σ_t of products of half spectra, (m, t, f) complex × (m, t, f) complex → (m, f)."""
    products = left * right if left.device.type != "cpu" else _products(left, right)
    if left.shape[1] < _MANY:
        return pairwise_sum(products, axis=1)
    # Each sample alone: in a sum of several PyTorch could choose the order by their place.
    numbers = torch.view_as_real(products)
    return torch.view_as_complex(torch.stack([sample.sum(dim=0) for sample in numbers]))


def _products(left: Tensor, right: Tensor) -> Tensor:
    """Elementwise, (m, t, f) complex each, on a CPU.

    A vectorised complex product rounds each step, and the scalar one of a loop's last numbers fuses them: the bits would
    depend on the place. So whole vectors are multiplied apart from the rest of each row, in one thread.
    """
    m, t, f = left.shape
    # One number more a row: PyTorch would make one long loop of rows that lie end to end.
    products = left.new_empty(m, t, f + 1)[:, :, :f]
    whole = f - f % _VECTOR
    rows = max(1, _ONE_THREAD // max(whole, 1))
    parts = (torch.split(each.flatten(0, 1), rows) for each in (left, right, products))
    for one, other, product in zip(*parts, strict=True):
        for start in range(0, whole, _ONE_THREAD):
            end = min(start + _ONE_THREAD, whole)
            torch.mul(one[:, start:end], other[:, start:end], out=product[:, start:end])
        torch.mul(one[:, whole:], other[:, whole:], out=product[:, whole:])
    return products
