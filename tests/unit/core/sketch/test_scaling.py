"""Scaling by powers of two: exact, sample by sample, from subnormal numbers to the largest."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dugs_stream.core.sketch.scaling import NOTHING, ScaledSum, normalised, times_power_of_two

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("exponent", [-200, -126, -1, 0, 1, 100, 127, 200])
def test_times_power_of_two_is_exact(dtype: torch.dtype, exponent: int) -> None:
    """Scaling there and back loses no bit, also by powers that the dtype cannot hold."""
    small = math.ldexp(1.0, -exponent // 2)
    values = torch.tensor([[1.1, -0.7, 1.999]], dtype=torch.float64).to(dtype) * small
    scaled = times_power_of_two(values, torch.tensor([exponent], dtype=torch.int32))

    assert np.array_equal(np.ldexp(values.double().numpy(), exponent), scaled.double().numpy())


@pytest.mark.parametrize("value", [1e-44, 1e-30, 1e-10, 5e9, 1e30, 3e38])
def test_normalised_brings_an_extreme_sample_below_one(value: float) -> None:
    """Its largest magnitude then lies in [½, 1), from subnormal numbers to the largest; an ordinary neighbour stays."""
    values, exponents = normalised(torch.tensor([[0.0, -value], [3.0, 0.25]], dtype=torch.float32))

    assert 0.5 <= -values[0, 1].item() < 1
    expected = float(np.float32(value))
    assert math.ldexp(-values[0, 1].item(), int(exponents[0])) == expected
    assert values[1].tolist() == [3.0, 0.25]
    assert int(exponents[1]) == 0


@pytest.mark.parametrize("value", [1e-9, 0.3, 1.0, 1e9])
def test_normalised_leaves_samples_of_ordinary_size_alone(value: float) -> None:
    """Nothing is copied or scaled where no product of two factors comes near the ends of float32."""
    given = torch.tensor([[0.0, -value]], dtype=torch.float32)
    values, exponents = normalised(given)

    assert values is given
    assert exponents.tolist() == [0]


def test_zero_sample_never_sets_the_scale() -> None:
    """A sample of zeros has the exponent of nothing, and stays zero."""
    values, exponents = normalised(torch.zeros(1, 3))

    assert exponents.tolist() == [NOTHING]
    assert values.tolist() == [[0.0, 0.0, 0.0]]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_sample_that_is_not_finite_stays_so_and_leaves_its_neighbours_alone(bad: float) -> None:
    """NaN and infinity keep their place, at any place in a sample; other samples are scaled as usual."""
    values = torch.full((3, 4), 0.25 * 2.0**-60)
    values[1, 2] = bad
    found, exponents = normalised(values)

    assert exponents.tolist() == [-61, 0, -61]
    assert torch.isfinite(found).all(dim=1).tolist() == [True, False, True]
    assert found[0].tolist() == [0.5] * 4


def test_sum_of_terms_far_apart_keeps_the_larger_and_of_near_ones_both() -> None:
    """Each sample's terms are added at the scale of its largest."""
    total = ScaledSum(2, 1, torch.float32, CPU)
    total.add(torch.tensor([[0.5], [0.5]]), torch.tensor([-300, 10], dtype=torch.int32))
    total.add(torch.tensor([[0.75], [0.75]]), torch.tensor([-299, 400], dtype=torch.int32))
    vectors, exponents = total.total()

    assert [math.ldexp(float(v), int(e)) for v, e in zip(vectors[:, 0], exponents, strict=True)] == [
        math.ldexp(0.5, -300) + math.ldexp(0.75, -299),
        math.ldexp(0.75, 400),
    ]


def test_spectra_columns_and_vectors_add_up_to_one_sum() -> None:
    """A term given as its half spectrum, or with the samples last, counts like the vector itself, at its own scale."""
    generator = torch.Generator().manual_seed(0)
    one, two, three = torch.randn(3, 3, 10, generator=generator, dtype=torch.float64)
    total = ScaledSum(3, 10, torch.float64, CPU)
    total.add_spectra(torch.fft.rfft(two), torch.tensor([3, 3, 3], dtype=torch.int32))
    total.add(one, torch.tensor([0, 5, -2], dtype=torch.int32))
    total.add_columns(three.t().contiguous(), torch.tensor([1, 4, 7], dtype=torch.int32))
    total.add_columns(three.t().contiguous(), torch.tensor([1, 4, 7], dtype=torch.int32))
    vectors, exponents = total.total()

    expected = one * torch.tensor([1.0, 32.0, 0.25])[:, None] + two * 8
    expected += three * torch.tensor([4.0, 32.0, 256.0])[:, None]
    found = np.ldexp(vectors.numpy(), exponents.numpy()[:, None])
    assert np.abs(found - expected.numpy()).max() < 1e-12


def test_plain_sum_names_the_samples_that_need_exponents() -> None:
    """Zero, tiny, huge and not finite; the others keep their bits, and each row follows from its own sample."""
    rows = torch.tensor([[1.0, -2.0], [0.0, 0.0], [2.0**-60, 0.0], [2.0**40, 1.0], [torch.nan, 1.0]])
    plain, careful = (ScaledSum(5, 2, torch.float32, CPU, is_plain=each) for each in (True, False))
    for total in (plain, careful):
        values, exponents = total.normalised(rows)
        total.add(values.clone(), exponents)
    unusual = plain.unusual_rows()
    assert unusual is not None
    assert unusual.tolist() == [False, True, True, True, True]

    vectors, exponents = plain.with_rows(careful, unusual).total()
    assert torch.equal(vectors[0], rows[0])
    assert exponents.tolist()[2:4] == [-59, 41]
    assert vectors[2:4].abs().amax(dim=1).tolist() == [0.5, 0.5]
    assert torch.ldexp(vectors[1:4], exponents[1:4, None]).tolist() == rows[1:4].tolist()


def test_plain_sum_takes_terms_with_exponents_too() -> None:
    """A path that scales its terms adds them to those of others that do not, in either order."""
    for is_first in (True, False):
        total = ScaledSum(1, 2, torch.float32, CPU, is_plain=True)
        scaled = torch.tensor([[1.0, 1.0]]), torch.tensor([3], dtype=torch.int32)
        small = torch.tensor([[1.0, 1.0]]), torch.tensor([-3], dtype=torch.int32)
        if is_first:
            total.add(*(each.clone() for each in scaled))
        values, exponents = total.normalised(torch.tensor([[1.0, 2.0]]))
        total.add(values, exponents)
        total.add_few(torch.tensor([1]), torch.tensor([[4.0]]), exponents)
        total.add(*small)
        if not is_first:
            total.add(*scaled)

        vectors, found = total.total()
        assert torch.ldexp(vectors, found[:, None]).tolist() == [[9.125, 14.125]]
        assert total.unusual_rows() is None
