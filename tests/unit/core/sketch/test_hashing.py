"""Seeded, balanced hash: pinned values, even loads, unrelated streams."""

from __future__ import annotations

import numpy as np
import pytest

from dugs_stream.core.sketch.hashing import MAP_VERSION, hash_axis

PINNED_BUCKETS = [0, 1, 1, 0, 3, 0, 3, 2, 2, 1]
PINNED_SIGNS = [1, -1, -1, -1, -1, -1, 1, -1, 1, -1]


def test_map_of_this_version_never_changes() -> None:
    """The same seed, name, axis and index give the same map in every release that carries this version."""
    hashed = hash_axis(7, "fc.weight", 1, 10, 4)

    assert MAP_VERSION == 1
    assert hashed.buckets.tolist() == PINNED_BUCKETS
    assert hashed.signs.tolist() == PINNED_SIGNS


@pytest.mark.parametrize("length", [1, 5, 64, 65, 1000])
@pytest.mark.parametrize("dimension", [1, 7, 64])
def test_every_bucket_gets_equally_many_indices(length: int, dimension: int) -> None:
    """No two buckets differ by more than one index; where they fit, no two indices meet."""
    loads = np.bincount(hash_axis(0, "w", 0, length, dimension).buckets, minlength=dimension)

    assert loads.sum() == length
    assert loads.max() - loads.min() <= 1


@pytest.mark.parametrize("other", [(1, "w", 0), (0, "v", 0), (0, "w", 1)], ids=["seed", "parameter", "axis"])
def test_another_seed_parameter_or_axis_has_another_map(other: tuple[int, str, int]) -> None:
    """Streams of different names are unrelated, in buckets and in signs."""
    one = hash_axis(0, "w", 0, 512, 64)
    two = hash_axis(*other, 512, 64)

    assert np.mean(one.buckets == two.buckets) < 0.1
    assert abs(np.mean(one.signs * two.signs.astype(float))) < 0.2


def test_signs_and_buckets_are_even_over_seeds() -> None:
    """Over many seeds an index falls into every bucket equally often, with either sign."""
    maps = [hash_axis(seed, "w", 0, 3, 4) for seed in range(2000)]
    buckets = np.array([hashed.buckets for hashed in maps])
    signs = np.array([hashed.signs for hashed in maps])

    for index in range(3):
        shares = np.bincount(buckets[:, index], minlength=4) / len(maps)
        assert np.abs(shares - 0.25).max() < 0.05
        assert abs(signs[:, index].mean()) < 0.1


def test_a_negative_or_huge_seed_is_a_seed_like_any_other() -> None:
    """The seed is hashed as a number, so its size does not matter."""
    maps = [hash_axis(seed, "w", 0, 100, 64).buckets.tolist() for seed in (-1, 0, 2**100)]

    assert maps[0] != maps[1] != maps[2]
