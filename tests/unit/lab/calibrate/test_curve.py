"""Curve of uniques over τ: points for wishes, and the knee."""

from __future__ import annotations

import numpy as np
import pytest

from dugs_stream.core.thresholds import ManyThresholds
from dugs_stream.lab.calibrate.curve import GRID, Curve, Landmarks, Point, knee, plateau


@pytest.fixture
def curve() -> Curve:
    """Two hundred rows around eight directions."""
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(8, 32))[generator.integers(8, size=200)] * 2
    rows += generator.normal(size=rows.shape) * generator.uniform(0.1, 1.5, size=(200, 1))
    vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return Curve(ManyThresholds(vectors.astype(np.float32)))


def point(threshold: float, share: float) -> Point:
    """One whose rows do not matter."""
    return Point(threshold, 200, np.zeros(0, np.int64), share, share)


@pytest.mark.parametrize("wanted", [8, 20, 77, 150, 199])
def test_point_for_a_number_keeps_that_many(curve: Curve, wanted: int) -> None:
    """In the mean over orders; in its own order a few more or less. The point is that of its τ."""
    found = curve.nearest_to(wanted, 200)

    assert abs(curve.expected(found.threshold, 200) - wanted) <= 1
    assert abs(found.uniques - wanted) <= 4
    assert curve.at(found.threshold) is found
    assert found.share == found.uniques / 200


def test_number_for_more_records_follows_the_growth_of_the_list() -> None:
    """As a power of the records; within the sample it is a count, and never more than the records themselves."""
    slow = Point(0.5, 100, np.array([0, 1, 2, 3, 10, 20, 60, 70]), 0.08, 0.0)
    even = Point(0.5, 100, np.arange(100), 1.0, 1.0)

    assert [slow.expected(each) for each in (1, 11, 100)] == [1, 5, 8]
    assert slow.expected(200) == pytest.approx(8 * 8 / 6)
    assert slow.expected(400) == pytest.approx(8 * (8 / 6) ** 2)
    assert even.expected(1_000) == 1_000
    assert Point(0.5, 1, np.array([0]), 1.0, 1.0).expected(10) == 10


def test_point_for_a_number_of_more_records_keeps_fewer_of_the_sample(curve: Curve) -> None:
    """100 of 2,000 need a lower τ than 100 of 200."""
    found = curve.nearest_to(100, 2_000)

    assert found.threshold < curve.nearest_to(100, 200).threshold
    assert curve.expected(found.threshold, 2_000) == pytest.approx(100, rel=0.2)
    assert curve.among_others(found.threshold, 2_000) is None


def test_numbers_of_other_samples_lie_within_the_interval() -> None:
    """Of 60 pairs of samples of one kind at least 55, and it is not much wider than they spread; one of a few rows has none."""
    generator = np.random.default_rng(3)
    directions = generator.normal(size=(30, 16))
    within, widths, found = 0, list[float](), list[float]()
    for _ in range(60):
        rows = directions[generator.integers(30, size=160)]
        rows = rows + generator.normal(size=rows.shape) * generator.uniform(0.1, 1.5, size=(160, 1))
        vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        own, other = Curve(ManyThresholds(vectors[:80])), ManyThresholds(vectors[80:])
        interval = own.among_others(0.8, 80)
        assert interval is not None
        found.append(len(other.uniques(0.8)))
        within += interval[0] <= found[-1] <= interval[1]
        widths.append(interval[1] - interval[0])
    assert within >= 55
    assert np.mean(widths) < 2 * 3.5 * np.std(found)
    assert Curve(ManyThresholds(vectors[:19])).among_others(0.8, 19) is None


def test_late_share_is_that_of_the_last_quarter(curve: Curve) -> None:
    """Rows 150 to 199, of which fewer are new."""
    found = curve.at(0.7)

    assert found.late_share == sum(row >= 150 for row in found.rows.tolist()) / 50
    assert found.late_share < found.share


def test_knee_lies_furthest_below_the_line() -> None:
    """Of a curve that is flat and then steep, at the bend; negative τ do not count."""
    bent = [point(-0.5, 0.0), *(point(each / 10, max(0.1, each - 7) / 3) for each in range(11))]

    assert knee(bent) == 0.7


@pytest.mark.parametrize("share", [0.01, 1.0])
def test_flat_curve_has_no_knee(share: float) -> None:
    """All alike, or all different."""
    assert knee([point(each, share) for each in GRID]) is None
    assert knee([]) is None


def test_curve_that_rises_most_at_a_low_threshold_has_no_knee() -> None:
    """It dips below the line between its ends before it rises, as of texts: that is no bend."""
    rising = [
        point(each / 20, min(0.02 * each, 0.04) if each < 3 else 0.7 + 0.015 * each) for each in range(21)
    ]

    assert rising[1].share < rising[-1].share / 20
    assert knee(rising) is None


def test_straight_line_has_no_knee() -> None:
    """No point lies below it."""
    assert knee([point(each / 8, each / 8) for each in range(9)]) is None


def counted(threshold: float, uniques: int) -> Point:
    """One with so many uniques."""
    return Point(threshold, 200, np.arange(uniques), uniques / 200, 0.0)


def test_plateau_is_the_middle_of_the_flattest_stretch_above_the_floor() -> None:
    """Three kinds of data up to 0.4, forty records from 0.6 to 0.8 that are no copies: the higher of two flat stretches."""
    counts = [3, 3, 3, 3, 3, 15, 40, 40, 40, 90, 160]
    points = [counted(each / 10, count) for each, count in enumerate(counts)]

    assert plateau(points, 0.05) == pytest.approx(0.7)
    assert plateau(points[:6], 0.05) == pytest.approx(0.25)
    assert plateau(points[:6], 0.35) is None
    assert plateau([counted(each / 10, 1) for each in range(11)], 0.1) is None
    assert plateau([], 0.1) is None


def test_plateau_is_not_the_end_where_every_record_is_unique() -> None:
    """One near copy among two hundred: its τ parts it from the rest, and above 0.9 nothing is left to change."""
    counts = [3, 20, 90, 150, 199, 199, 199, 199, 199, 200, 200]

    assert plateau([counted(each / 10, count) for each, count in enumerate(counts)], 0.05) == pytest.approx(
        0.6
    )
    assert plateau([counted(each / 10, 200) for each in range(11)], 0.05) is None


@pytest.mark.parametrize(
    ("plateau", "knee", "best"),
    [
        (0.6, 0.8, 0.8),
        (0.6, 0.02, 0.6),
        (0.6, 0.3, 0.6),
        (None, 0.8, 0.8),
        (None, 0.02, None),
        (None, None, None),
    ],
)
def test_knee_among_unrelated_gradients_gives_way_to_the_plateau(
    plateau: float | None, knee: float | None, best: float | None
) -> None:
    """A τ below the noise floor would keep a handful of distinct records; without a plateau nothing is chosen."""
    landmarks = Landmarks(plateau, knee, 0.315)

    assert landmarks.are_of_use == (best is not None)
    assert best is None or landmarks.by_use[-1][1] == best
