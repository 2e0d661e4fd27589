"""Half spectra of real vectors, and their products with the same bits at every place of a batch."""

import torch
from torch import Tensor

from dugs_stream.core.sketch.axis import MANY_TERMS, pairwise_sum

_VECTOR = 16
"""Complex numbers in one turn of PyTorch's vectorised loops on the widest CPU (AVX-512)."""

_ONE_THREAD = 1 << 15
"""PyTorch splits no elementwise operation of up to 32 768 numbers among threads."""


def summed_products(left: Tensor, right: Tensor) -> Tensor:
    """Σ_t of products of half spectra, (m, t, f) complex × (m, t, f) complex → (m, f).

    On a CPU a vectorised complex product rounds each step, and the scalar one of a loop's last numbers fuses them: the bits
    would depend on the place. So whole vectors are multiplied apart from the rest of each row, in one thread, and a part
    of the products is added up while it is in the cache.
    """
    if left.device.type != "cpu":
        return pairwise_sum(left * right, axis=1)
    t, f = left.shape[1:]
    if t == 1:
        return _single_products(left[:, 0], right[:, 0])
    rows = max(1, _ONE_THREAD // (f - f % _VECTOR or f))
    positions = min(t, rows)
    # Of samples with many positions one at a time: in a sum of several PyTorch could choose the order by their place.
    samples = 1 if t >= MANY_TERMS else rows // positions
    # One number more a row: PyTorch would make one long loop of rows that lie end to end.
    room = left.new_empty(samples, positions, f + 1)
    totals = []
    for one, other in zip(torch.split(left, samples), torch.split(right, samples), strict=True):
        total: Tensor | None = None
        for start in range(0, t, positions):
            some = slice(start, start + positions)
            products = room[: len(one), : min(positions, t - start), :f]
            _multiply(one[:, some], other[:, some], products)
            part = _sum(products) if t >= MANY_TERMS else pairwise_sum(products, axis=1)
            total = part if total is None else total + part
        assert total is not None  # noqa: S101 -- a call has at least one position
        totals.append(total)
    return torch.cat(totals) if len(totals) > 1 else totals[0]


def _single_products(left: Tensor, right: Tensor) -> Tensor:
    products = left.new_empty(left.shape[0], left.shape[1] + 1)[:, :-1]
    rows = max(1, _ONE_THREAD // left.shape[1])
    for parts in zip(*(torch.split(each, rows) for each in (left, right, products)), strict=True):
        _multiply(*parts)
    return products


def _multiply(left: Tensor, right: Tensor, products: Tensor) -> None:
    """(…, f) complex each, at most `_ONE_THREAD` numbers or one row; into `products`, whose rows lie apart."""
    f = left.shape[-1]
    whole = f - f % _VECTOR
    for start in range(0, whole, _ONE_THREAD):
        end = min(start + _ONE_THREAD, whole)
        torch.mul(left[..., start:end], right[..., start:end], out=products[..., start:end])
    torch.mul(left[..., whole:], right[..., whole:], out=products[..., whole:])


def _sum(products: Tensor) -> Tensor:
    """Σ over the positions of one sample, (1, t, f) complex → (1, f)."""
    return torch.view_as_complex(torch.view_as_real(products).sum(dim=1))
