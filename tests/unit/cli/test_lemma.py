"""The lines of `dugs jl`."""

from __future__ import annotations

import pytest

from dugs_stream.cli.lemma import lines_for_dimension, lines_for_epsilon


@pytest.mark.parametrize(("samples", "epsilon"), [(2, 0.5), (10_000, 0.1), (10**12, 0.001)])
def test_lemma_agrees_with_itself_both_ways(samples: int, epsilon: float) -> None:
    """The smallest k for ε guarantees no worse than ε, and both ways name the same powers of two."""
    bound, smallest, between = lines_for_epsilon(samples, epsilon)
    dimension = int(smallest.split()[-1])

    backwards = lines_for_dimension(samples, dimension)

    assert dimension > float(bound.split()[1]) - 0.01
    assert float(backwards[0].split()[1]) <= epsilon
    assert backwards[1] == between


def test_power_of_two_is_between_itself_and_itself() -> None:
    """2048 is named as one power, not as lying between two."""
    assert lines_for_dimension(100, 2048)[1].split()[1:] == ["2048", "(2^11)", "and", "2048", "(2^11)"]
