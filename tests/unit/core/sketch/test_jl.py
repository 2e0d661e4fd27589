"""Johnson-Lindenstrauss lemma, both ways."""

from __future__ import annotations

import math

import pytest

from dugs_stream.core.sketch import jl


def test_bound_of_the_published_example_is_the_published_number() -> None:
    """8·ln(10 000)/0.001² is 73 682 722.98, its next integer and the powers of two around it follow."""
    assert jl.bound(10_000, 0.001) == pytest.approx(73_682_722.98, abs=0.005)

    assert jl.smallest_dimension(10_000, 0.001) == 73_682_723
    assert jl.powers_of_two_around(73_682_723) == (2**26, 2**27)


@pytest.mark.parametrize(("n", "epsilon"), [(2, 0.5), (1000, 0.1), (10**12, 0.03)])
def test_smallest_dimension_lies_just_above_the_bound(n: int, epsilon: float) -> None:
    """The smallest k exceeds the bound, and k − 1 does not."""
    smallest = jl.smallest_dimension(n, epsilon)

    assert smallest - 1 <= jl.bound(n, epsilon) < smallest


def test_epsilon_of_the_bound_is_the_epsilon_it_was_made_of() -> None:
    """The two ways of the lemma undo each other."""
    dimension = jl.smallest_dimension(5000, 0.2)

    assert jl.epsilon(5000, dimension) == pytest.approx(0.2, rel=1e-3)
    assert jl.epsilon(5000, dimension) < 0.2


def test_epsilon_with_too_few_dimensions_may_exceed_one() -> None:
    """If the lemma promises nothing the number says so instead of an error."""
    assert jl.epsilon(10_000, 16) == pytest.approx(math.sqrt(8 * math.log(10_000) / 16))
    assert jl.epsilon(10_000, 16) > 1


@pytest.mark.parametrize(
    ("dimension", "around"), [(1, (1, 1)), (2, (2, 2)), (3, (2, 4)), (512, (512, 512)), (513, (512, 1024))]
)
def test_powers_of_two_around_an_exact_power_are_itself(dimension: int, around: tuple[int, int]) -> None:
    """A power of two is its own neighbour on both sides."""
    assert jl.powers_of_two_around(dimension) == around


def test_fewer_than_two_samples_are_refused() -> None:
    """A distance needs two points, and the message says so."""
    for n in (1, 0, -5):
        with pytest.raises(ValueError, match="at least 2 samples"):
            jl.bound(n, 0.1)
        with pytest.raises(ValueError, match="at least 2 samples"):
            jl.epsilon(n, 100)


def test_epsilon_outside_zero_and_one_is_refused() -> None:
    """The lemma speaks of 0 < ε < 1 only."""
    for epsilon in (0.0, -0.1, 1.0, 2.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="between 0 and 1"):
            jl.bound(100, epsilon)


def test_epsilon_too_small_for_a_finite_bound_is_refused() -> None:
    """An overflowing bound is an error of the question, not infinity as an answer."""
    with pytest.raises(ValueError, match="larger epsilon"):
        jl.smallest_dimension(100, 1e-200)


def test_dimension_below_one_is_refused() -> None:
    """No dimensions hold nothing."""
    for dimension in (0, -1):
        with pytest.raises(ValueError, match="at least 1"):
            jl.powers_of_two_around(dimension)
        with pytest.raises(ValueError, match="at least 1"):
            jl.epsilon(100, dimension)
