"""Half spectra of real vectors, and their products with the same bits at every place of a batch."""

import torch
from torch import Tensor

from dugs_stream.core.sketch.axis import MANY_TERMS, pairwise_sum
from dugs_stream.core.sketch.scratch import Scratch

_VECTOR = 16
"""Complex numbers in one turn of PyTorch's vectorised loops on the widest CPU (AVX-512)."""

_ONE_THREAD = 1 << 15
"""PyTorch splits no elementwise operation of up to 32 768 numbers among threads, and a longer one into equal shares."""


def summed_products(left: Tensor, right: Tensor, scratch: Scratch) -> Tensor:
    """Σ_t of products of half spectra, (m, t, f) complex × (m, t, f) complex → (m, f).

    On a CPU a vectorised complex product rounds each step, and the scalar one of a loop's last numbers fuses them: the bits
    would depend on the place. So whole vectors are multiplied apart from the rest of each row, in pieces that threads
    share without cutting a vector.
    """
    if left.device.type != "cpu":
        return pairwise_sum(left * right, axis=1)
    m, t, f = left.shape
    if t == 1:
        return _single_products(left[:, 0], right[:, 0])
    # One number more a row: PyTorch would make one long loop of rows that lie end to end.
    room = scratch.take("products", left, m, t, f + 1)[:, :, :f]
    flat = [each.flatten(0, 1) for each in (left, right, room)]
    step = _rows_at_once(m * t, f - f % _VECTOR)
    for parts in zip(*(torch.split(each, step) for each in flat), strict=True):
        _multiply(*parts)
    if t < MANY_TERMS:
        return pairwise_sum(room, axis=1)
    sums = left.new_empty(m, f)
    # Each sample alone: in a sum of several PyTorch could choose the order by their place.
    for sample, row in zip(torch.view_as_real(room), torch.view_as_real(sums), strict=True):
        torch.sum(sample, dim=0, out=row)
    return sums


def _rows_at_once(rows: int, width: int) -> int:
    """How many rows of whole vectors are multiplied by one operation, so that no thread begins within a vector.

    All of them if the threads' shares come out even; else as many as PyTorch leaves to one thread.
    """
    numbers = rows * width
    shares = min(torch.get_num_threads(), -(-numbers // _ONE_THREAD))
    is_even = width <= _ONE_THREAD and numbers % (max(shares, 1) * _VECTOR) == 0
    return rows if is_even else max(1, _ONE_THREAD // max(width, 1))


def _single_products(left: Tensor, right: Tensor) -> Tensor:
    products = left.new_empty(left.shape[0], left.shape[1] + 1)[:, :-1]
    rows = max(1, _ONE_THREAD // left.shape[1])
    for parts in zip(*(torch.split(each, rows) for each in (left, right, products)), strict=True):
        _multiply(*parts)
    return products


def _multiply(left: Tensor, right: Tensor, products: Tensor) -> None:
    """(rows, f) complex each, as many as `_rows_at_once` says; into `products`, whose rows lie apart."""
    f = left.shape[-1]
    whole = f - f % _VECTOR
    for start in range(0, whole, _ONE_THREAD):
        end = min(start + _ONE_THREAD, whole)
        torch.mul(left[..., start:end], right[..., start:end], out=products[..., start:end])
    torch.mul(left[..., whole:], right[..., whole:], out=products[..., whole:])
