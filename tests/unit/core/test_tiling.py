"""How many samples are computed together: by what a sample costs and a lone one waits, kept for samples of other lengths."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dugs_stream.core.tiling import LARGEST_TILE, TileChoice, Timing, measured, preferred


def chosen(seconds: Callable[[int], float | None], most: int = LARGEST_TILE) -> tuple[int, list[int]]:
    """The tile that is taken first, and those that were timed."""
    timings = measured(seconds, most)
    return preferred(timings)[0], [each.tile for each in timings]


def test_a_heavy_model_is_computed_one_sample_at_a_time() -> None:
    """Nothing is gained by company, so that a lone sample need not pay for a tile; larger tiles are not even timed."""
    assert chosen(lambda tile: 0.06 * tile) == (1, [1, 4])


def test_a_tiny_model_gets_the_largest_tile() -> None:
    """A tile costs its fixed price, almost regardless of its samples."""
    assert chosen(lambda tile: 1e-3 + 3e-6 * tile)[0] == LARGEST_TILE


def test_the_smallest_of_about_the_quickest_is_taken() -> None:
    """AlexNet's figures: 343 records/s with 32, 319 with 16, and a step between two that were timed is looked at too."""
    rates = {1: 60, 2: 111, 4: 165, 8: 256, 16: 319, 32: 343}

    assert chosen(lambda tile: tile / rates[tile], most=32) == (16, [1, 4, 8, 16, 32])


def test_a_lone_sample_is_not_made_to_wait_for_a_little_speed() -> None:
    """EfficientNet-Lite0's figures: four together are a fifth quicker, and a lone one takes three times as long."""
    seconds = {1: 0.0384, 2: 0.0690, 4: 0.1256, 16: 0.740}

    assert chosen(seconds.__getitem__)[0] == 1
    assert preferred([Timing(*each) for each in seconds.items()], samples=1000)[0] == 4


def test_a_timing_that_was_disturbed_does_not_decide() -> None:
    """Tiles that are close are timed again in turns, and the least of each counts."""
    asked: list[int] = []

    def take(tile: int) -> float:
        asked.append(tile)
        return 0.02 * tile * (1.3 if asked == [1] else 1)

    assert chosen(take)[0] == 1
    assert asked.count(1) > 1


def test_of_few_samples_few_are_spent_on_the_choice() -> None:
    """The rate of AlexNet would pay for larger ones if more samples came."""
    rates = {1: 60, 4: 165, 16: 232, 32: 278, 64: 300, 256: 310}

    assert [each.tile for each in measured(lambda tile: tile / rates[tile], 256, samples=256)] == [1, 4, 16]
    assert [each.tile for each in measured(lambda tile: tile / rates[tile], 10, samples=10)] == [1]
    assert [each.tile for each in measured(lambda tile: 0.007 + 0.026 * tile, 256, samples=256)] == [1, 4]


def test_no_tile_is_tried_that_a_lone_sample_would_wait_for_too_long() -> None:
    """However much company brings."""
    assert chosen(lambda tile: 2.0 + 0.01 * tile) == (1, [1])


def test_large_tiles_must_be_quick() -> None:
    """Beyond the usual size a tile may take a twentieth of a second, no more."""
    assert chosen(lambda tile: 0.04 + 0.0005 * tile)[0] == 32


def test_a_tile_that_is_left_out_is_not_taken() -> None:
    """One sample alone gives other vectors, say."""
    assert chosen(lambda tile: None if tile == 1 else 0.06 * tile) == (4, [4])


@pytest.mark.parametrize("most", [1, 3, 10, 100])
def test_no_tile_holds_more_than_it_may(most: int) -> None:
    """Fewer records in a micro-batch, or more tokens in a text."""
    assert chosen(lambda _tile: 1e-3, most) == (most, chosen(lambda _tile: 1e-3, most)[1])


def test_the_others_follow_by_their_rates() -> None:
    """For a model whose bits depend on the place in the first."""
    assert preferred([Timing(1, 1.0), Timing(4, 2.0), Timing(16, 2.0), Timing(32, 3.9)]) == [16, 32, 4, 1]


def test_samples_of_another_length_are_computed_by_about_as_many_numbers() -> None:
    """By arithmetic alone, so that a restart that meets other lengths first finds the same."""
    choice = TileChoice(4, numbers=128)
    assert [choice.of(numbers, 64) for numbers in (16, 32, 100, 128, 256, 513, 10_000)] == [
        32,
        16,
        4,
        4,
        2,
        1,
        1,
    ]
    assert choice.of(1, 64) == 64
    assert TileChoice(32).of(10_000, 8) == 8
