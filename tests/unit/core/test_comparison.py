"""Comparison of gradients: what passes for rounding, and what does not."""

from __future__ import annotations

import pytest
import torch

from dugs_stream.core.comparison import differences, tolerance


def test_differences_are_relative_to_each_parameter() -> None:
    """A parameter that misses half of its gradient is found beside large ones."""
    large, small = torch.full((4,), 100.0), torch.full((4,), 0.5)

    assert differences([large, small * 0.5], [large, small]) == pytest.approx([0.0, 0.5])
    assert differences([large * 1.5, small], [large, small]) == pytest.approx([0.5, 0.0])


def test_gradient_that_is_rounding_alone_is_measured_by_the_whole() -> None:
    """The bias of attention's keys has a gradient of zero, up to rounding."""
    whole, nothing = torch.full((4,), 1.0), torch.tensor([1e-9, -1e-9])

    assert max(differences([whole, nothing], [whole, -nothing])) < 1e-3
    assert differences([whole, torch.zeros(())], [whole, torch.zeros(2)]) == [0.0, 0.0]


def test_gradient_where_autograd_has_none_differs() -> None:
    """And none where autograd has one."""
    assert differences([torch.ones(2)], [torch.zeros(2)]) == [float("inf")]
    assert differences([torch.zeros(())], [torch.ones(2)]) == pytest.approx([1.0])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_agree_with_their_like_alone(bad: float) -> None:
    """Except in half precision, where autograd overflows and we do not."""
    broken, fine = torch.tensor([bad, 1.0]), torch.ones(2)

    assert differences([broken], [broken]) == [0.0]
    assert differences([fine], [broken]) == [float("inf")]
    assert differences([broken], [fine]) == [float("inf")]
    assert differences([fine], [broken.half()]) == [0.0]


@pytest.mark.parametrize("size", [1.0, 1e25, 1e-30])
def test_large_layers_are_compared_piece_by_piece(size: float) -> None:
    """Also where the squares of their numbers overflow in float32, or vanish."""
    expected = torch.randn(3, 70_001, generator=torch.Generator().manual_seed(0)) * size
    found = expected.clone()
    found[2, -1000:] *= 2
    apart = float((found - expected).double().norm() / expected.double().norm())

    assert differences([found, expected], [expected, expected]) == pytest.approx([apart, 0.0], rel=1e-5)


def test_tolerance_is_that_of_the_coarsest_precision() -> None:
    """Autocast computes in half precision with float32 parameters."""
    assert tolerance([torch.float64]) < tolerance([torch.float64, torch.float32])
    assert (
        tolerance([torch.float32]) < tolerance([torch.float32, torch.bfloat16]) == tolerance([torch.float16])
    )
    assert tolerance([torch.complex64]) == tolerance([torch.float32])
