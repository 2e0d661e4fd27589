"""The limit on a micro-batch follows what batches cost: in time, and within memory."""

from __future__ import annotations

import math

import pytest

from dugs_stream.daemon.pacing import Pacing

TILE = 32


def pacing(most: int = 256, target_seconds: float = 30.0) -> Pacing:
    """The daemon's own numbers."""
    return Pacing(most, tile=TILE, target_seconds=target_seconds)


def took_each(paced: Pacing, seconds_a_tile: float, batches: int) -> None:
    """Full batches at a steady cost."""
    for _ in range(batches):
        records = paced.records
        paced.took(records, seconds_a_tile * math.ceil(records / TILE))


def test_first_batch_is_one_tile() -> None:
    """Before anything was measured a batch holds what is computed together anyway."""
    assert pacing().records == TILE
    assert pacing(most=5).records == 5


def test_fast_batches_reach_the_configured_limit_in_one_step() -> None:
    """A tile in no time vouches for eight."""
    paced = pacing()

    took_each(paced, 0.01, 1)

    assert paced.records == 256


@pytest.mark.parametrize(("seconds_a_tile", "records"), [(4.0, 224), (10.0, 96), (29.0, 32), (100.0, 32)])
def test_slow_batches_hold_whole_tiles_within_the_target(seconds_a_tile: float, records: int) -> None:
    """As many tiles as end within thirty seconds; one at least."""
    paced = pacing()

    took_each(paced, seconds_a_tile, 3)

    assert paced.records == records


@pytest.mark.parametrize("seconds_a_record", [0.001, 0.3, 2.0, 11.0, 200.0])
def test_batches_end_far_below_the_ten_targets_that_lose_the_input(seconds_a_record: float) -> None:
    """Whatever a record costs: after the first few, a batch takes six targets at most, or holds one record."""
    paced = pacing()
    for number in range(40):
        records = paced.records
        seconds = records * seconds_a_record
        paced.took(records, seconds)
        assert number < 6 or seconds <= 6 * 30 or records == 1


def test_one_record_in_a_slow_tile_does_not_bind_the_rest_to_batches_of_one() -> None:
    """A trickle that pays a tile for each record goes on with a tile once there is a backlog."""
    paced = pacing()
    for _ in range(20):
        paced.took(1, 20.0)

    assert paced.records == TILE


def test_batch_of_one_does_not_vouch_for_a_full_one() -> None:
    """Its decoding was one record's: eight records are believed, and a tile is always tried."""
    paced = Pacing(256, tile=2, target_seconds=30.0)
    paced.took(1, 0.1)

    assert paced.records == 8


def test_slowest_of_the_last_batches_sets_the_pace_and_is_forgotten_at_last() -> None:
    """A quick batch does not undo a slow one; sixteen do."""
    paced = pacing()
    took_each(paced, 10.0, 2)
    took_each(paced, 0.01, 15)
    assert paced.records == 96

    took_each(paced, 0.01, 1)
    assert paced.records == 256


def test_target_without_limit_leaves_only_the_configured_one() -> None:
    """Where nothing takes the input away, a batch may take its time."""
    paced = pacing(target_seconds=math.inf)

    took_each(paced, 10_000.0, 1)

    assert paced.records == 256


def test_batch_that_ran_out_of_memory_is_halved_and_that_is_remembered() -> None:
    """The next one holds half, and so does the one after it."""
    paced = pacing()
    took_each(paced, 0.01, 1)

    assert paced.ran_out_of_memory(256)

    assert paced.records == 128
    took_each(paced, 0.01, 3)
    assert paced.records == 128


def test_single_record_that_runs_out_of_memory_cannot_be_halved() -> None:
    """Somebody has to decide then; the limit stays one."""
    paced = pacing()

    assert not paced.ran_out_of_memory(1)
    assert paced.records == 1


def test_limit_of_memory_grows_back_slowly_by_full_batches_alone() -> None:
    """Small batches prove nothing; full ones lead back to the configured limit in some fifty."""
    paced = pacing()
    took_each(paced, 0.01, 1)
    paced.ran_out_of_memory(256)
    for _ in range(100):
        paced.took(3, 0.01)
    took_each(paced, 0.01, 1)
    assert paced.records == 128

    batches = 0
    while paced.records < 256:
        took_each(paced, 0.01, 1)
        batches += 1
    assert 40 <= batches <= 60


def test_numbers_that_cannot_be_meant_are_refused() -> None:
    """A limit of nothing would stop the stream in silence."""
    with pytest.raises(ValueError, match="above 0"):
        Pacing(0, tile=1, target_seconds=1.0)
    with pytest.raises(ValueError, match="above 0"):
        Pacing(1, tile=1, target_seconds=math.nan)
