"""Half spectra of real vectors, and their products with the same bits at every place of a batch."""

import torch
from torch import Tensor

from dugs_stream.core.sketch.axis import pairwise_sum

_VECTOR = 16
"""Complex numbers in one turn of PyTorch's vectorised loops on the widest CPU (AVX-512)."""

_ONE_THREAD = 1 << 15
"""PyTorch splits no elementwise operation of up to 32 768 numbers among threads."""


def summed_products(left: Tensor, right: Tensor) -> Tensor:
    """Σ_t of products of half spectra, (m, t, f) complex × (m, t, f) complex → (m, f)."""
    products = left * right if left.device.type != "cpu" else _products(left, right)
    if products.shape[0] > 1 or products.shape[1] == 1:
        return pairwise_sum(products, axis=1)
    # Of a sample alone, so that its place in the tile cannot choose the order.
    return torch.view_as_complex(torch.view_as_real(products).sum(dim=1))


def _products(left: Tensor, right: Tensor) -> Tensor:
    """Elementwise, (m, t, f) complex each, on a CPU.

    A vectorised complex product rounds each step, and the scalar one of a loop's last numbers fuses them: the bits would
    depend on the place. So whole vectors are multiplied apart from the rest of each row, in one thread.
    """
    m, t, f = left.shape
    # One number more a row: PyTorch would make one long loop of rows that lie end to end.
    products = left.new_empty(m, t, f + 1)[:, :, :f]
    whole = f - f % _VECTOR
    rows, most = max(1, _ONE_THREAD // max(whole, 1)), min(_ONE_THREAD, max(whole, 1))
    one, other, product = (each.flatten(0, 1) for each in (left, right, products))
    for first in range(0, m * t, rows):
        some = slice(first, first + rows)
        for start in range(0, whole, most):
            part = slice(start, min(start + most, whole))
            torch.mul(one[some, part], other[some, part], out=product[some, part])
        torch.mul(one[some, whole:], other[some, whole:], out=product[some, whole:])
    return products
