"""Trial of a device before its products are relied on: sums made to be difficult, held against float64.

The bound of `core.index.low_precision` stands on an assumption about the device's additions. Here are products that would break it if
the device added in fewer bits, or kept partial sums in bf16. Which kernel computes a product depends on its shape, so
every scan besides compares what it uses (`core.index.device_scan`).
"""

import functools

import torch
from torch import Tensor

from dugs_stream.core.index.low_precision import Arithmetic, bfloat_products

_ROWS = 512
_QUERIES = (1, 16, 256)


class UnfitDeviceError(Exception):
    """What the device computes is not within the bound; nothing it said may be used."""


@functools.cache
def try_products(device: torch.device, arithmetic: Arithmetic) -> float:
    """Raise UnfitDeviceError unless the device's products of difficult numbers lie within the bound; tried once a process.

    Returns the greatest share of the bound that was used, 0 … 1.

    Raises what torch raises if the device cannot multiply such numbers at all.
    """
    rows = _difficult(_ROWS, arithmetic.dimension, seed=1)
    used = 0.0
    for count in _QUERIES:
        queries = _difficult(count, arithmetic.dimension, seed=2)
        products = bfloat_products(queries.to(device), rows.to(device)).cpu().double()
        exact = queries.double() @ rows.double().T
        sizes = queries.double().abs() @ rows.double().abs().T
        bound = arithmetic.loss * sizes + arithmetic.underflow
        if not bool(((products - exact).abs() <= bound).all()):
            lost = ((products - exact).abs() / sizes).amax().item()
            raise UnfitDeviceError(
                f"{device} lost {lost:.3g} of a product of {arithmetic.dimension} bf16 numbers, {arithmetic.loss:.3g} was expected "
                "at most"
            )
        used = max(used, ((products - exact).abs() / bound).amax().item())
    return used


def _difficult(rows: int, dimension: int, seed: int) -> Tensor:
    """bf16 numbers (rows, dimension) on the CPU, by turns of five kinds: what one kind of addition loses shows in one of them."""
    with torch.device("cpu"):  # where the process may have set another one
        return _by_turns(rows, dimension, seed)


def _by_turns(rows: int, dimension: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(rows, dimension, generator=generator)
    signs = torch.where(torch.rand(rows, dimension, generator=generator) < 0.5, -1.0, 1.0)  # noqa: PLR2004 -- a coin
    spread = signs * torch.exp2(-24 * drawn)  # small numbers beside great ones
    growing = 1 + drawn / 64  # partial sums that bf16 cannot hold
    falling = torch.exp2(-torch.linspace(0, 24, dimension)).expand(rows, -1)
    rising = falling.flip(1) * signs
    cancelling = growing * torch.where(torch.arange(dimension) < dimension // 2, 1.0, -1.0)
    kinds = torch.stack([spread, growing, falling, rising, cancelling])
    turn = torch.arange(rows)
    return kinds[turn % len(kinds), turn].bfloat16()
