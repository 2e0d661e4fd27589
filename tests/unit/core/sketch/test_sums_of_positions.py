"""Sums over a sample's positions: the same bits at every place of a tile, with any number of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from dugs_stream.core.sketch.axis import position_sum
from dugs_stream.core.sketch.scratch import Scratch
from dugs_stream.core.sketch.spectrum import summed_products

PLACES = 5


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("layout", ["samples apart", "samples side by side", "positions last"])
@pytest.mark.parametrize("length", [33, 100])
@pytest.mark.usefixtures("threads")
def test_sum_of_positions_has_the_same_bits_at_every_place(layout: str, length: int) -> None:
    """Of numbers of several samples that lie side by side PyTorch adds the last ones in another order."""
    generator = torch.Generator().manual_seed(2)
    sample = torch.randn(64, length, generator=generator)
    values = sample.expand(PLACES, -1, -1)
    laid_out: dict[str, Callable[[Tensor], Tensor]] = {
        "samples apart": lambda each: each.contiguous(),
        "samples side by side": lambda each: each.transpose(0, 1).contiguous().transpose(0, 1),
        "positions last": lambda each: each.transpose(1, 2).contiguous().transpose(1, 2),
    }

    found = position_sum(laid_out[layout](values))

    assert torch.equal(found, found[:1].expand_as(found))
    torch.testing.assert_close(found[0], sample.double().sum(dim=0).float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("positions", [3, 41])
@pytest.mark.parametrize("frequencies", [9, 1025, 1100])
@pytest.mark.usefixtures("threads")
def test_sum_of_products_of_spectra_has_the_same_bits_at_every_place(
    positions: int, frequencies: int
) -> None:
    """Threads share the rows; none may begin within a vector, where the arithmetic rounds in another way."""
    generator = torch.Generator().manual_seed(2)
    left, right = (
        torch.randn(positions, frequencies, dtype=torch.complex64, generator=generator) for _ in range(2)
    )
    copies = [each.expand(PLACES, -1, -1).contiguous() for each in (left, right)]

    found = summed_products(*copies, Scratch())

    assert torch.equal(found, found[:1].expand_as(found))
    expected = (left.to(torch.complex128) * right).sum(dim=0)
    torch.testing.assert_close(found[0], expected.to(torch.complex64), rtol=1e-4, atol=1e-4)
