"""The control experiments: equal to theory."""

from __future__ import annotations

from math import comb

import pytest

from dugs_stream.lab.demo.controls import picks_until_all, random_picks

STREAM = ["a"] * 50 + ["b"] * 30 + ["c"] * 18 + ["d"] * 2


def expected_classes(classes: list[str], size: int) -> float:
    """The mean without a draw: each class is missed with hypergeometric probability."""
    total = len(classes)
    missed = [comb(total - classes.count(name), size) / comb(total, size) for name in sorted(set(classes))]
    return sum(1 - probability for probability in missed)


def test_mean_agrees_with_the_hypergeometric_law() -> None:
    """Draws are without replacement: their mean is the law's, within five standard errors."""
    picks = random_picks(STREAM, 7)

    assert picks.mean == pytest.approx(expected_classes(STREAM, 7), abs=5 * 0.6 / 1_000**0.5)
    assert (picks.low, picks.high) == (2, 4)


def test_same_seed_gives_the_same_draws_and_another_seed_others() -> None:
    """The row of the table can be repeated by anyone."""
    assert random_picks(STREAM, 7, seed=1) == random_picks(STREAM, 7, seed=1)
    assert random_picks(STREAM, 7, seed=1) != random_picks(STREAM, 7, seed=2)


@pytest.mark.parametrize("size", [100, 101, 5_000])
def test_drawing_everything_finds_every_class(size: int) -> None:
    """More picks than records are all records."""
    picks = random_picks(STREAM, size, draws=3)

    assert (picks.size, picks.mean, picks.low, picks.high) == (100, 4.0, 4, 4)


@pytest.mark.parametrize(("stream", "size"), [(STREAM, 0), ([], 5)])
def test_drawing_nothing_finds_nothing(stream: list[str], size: int) -> None:
    """No pick or no record finds no class, without an error."""
    assert random_picks(stream, size).mean == 0.0


@pytest.mark.parametrize(("size", "draws"), [(-1, 10), (3, 0)])
def test_impossible_draws_are_refused_with_both_numbers(size: int, draws: int) -> None:
    """The message names what was asked for."""
    with pytest.raises(ValueError, match=f"size {size} and draws {draws}"):
        random_picks(STREAM, size, draws=draws)


def test_picks_until_all_is_the_place_of_the_last_new_class() -> None:
    """Two classes in the order 0, 0, 1, 0: covered by the first three."""
    assert picks_until_all("0010", 2) == 3
    assert picks_until_all("0010", 3) is None
