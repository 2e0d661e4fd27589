"""Mapped rows: each block is verified before it is used, and rows go on in memory behind them."""

from __future__ import annotations

import numpy as np
import pytest

from dugs_stream.core.index import rows as rows_module
from dugs_stream.core.index.mapped import BlockDigests, MappedRows
from dugs_stream.core.index.rows import Rows
from dugs_stream.core.index.unique_index import UniqueIndex
from dugs_stream.errors import DamagedRowsError
from tests.support.oracles.unit_rows import unit_rows

UNITS = unit_rows(7, 50, 6)


def mapped(rows: np.ndarray, damaged: tuple[int, ...] = (), name: str = "vectors-00000.f32") -> MappedRows:
    """The rows in blocks of four, some of which are not what was written."""
    digests = BlockDigests(4)
    digests.update(rows)
    read = rows.copy()
    read[list(damaged)] *= -1
    return MappedRows(read, name, digests.digests, 4)


@pytest.mark.parametrize("cuts", [(50,), (4, 8), (1, 2, 3), (7, 30), (0, 5)])
def test_digests_are_those_of_the_rows_in_any_pieces(cuts: tuple[int, ...]) -> None:
    """However rows are appended, blocks have the same checksums; a copy and a resumed one go on alike."""
    whole, pieces = BlockDigests(4), BlockDigests(4)
    whole.update(UNITS)
    for part in np.split(UNITS, cuts):
        pieces = pieces.copy()
        pieces.update(part)
    resumed = BlockDigests(4)
    resumed.skip(whole.digests[:10])
    resumed.update(UNITS[40:])

    assert len(whole.digests) == 13
    assert whole.digests == pieces.digests == resumed.digests


def test_only_blocks_that_are_used_are_verified() -> None:
    """Damage elsewhere is not in the way, and is found when its block is used, by whichever way of reading."""
    damaged = mapped(UNITS, damaged=(9, 49))
    assert np.array_equal(damaged.verified(0, 8), UNITS[:8])
    assert np.array_equal(damaged.verified(13, 16), UNITS[13:16])
    assert np.array_equal(damaged.verified_at(np.array([17, 40]))[[17, 40]], UNITS[[17, 40]])

    with pytest.raises(DamagedRowsError, match=r"rows 8 to 11"):
        damaged.verified(0, 10)
    with pytest.raises(DamagedRowsError, match=r"rows 48 to 49"):
        damaged.verified_at(np.array([48]))


def test_verifying_ahead_ends_with_everything_verified() -> None:
    """A little at a time until nothing is left; damage is raised, and again at the next look."""
    sound, block_bytes = mapped(UNITS), 4 * 6 * 4
    assert sound.unverified_bytes == UNITS.nbytes
    assert [sound.verify_ahead(3 * block_bytes) // block_bytes for _ in range(5)] == [3, 3, 3, 3, 0]
    assert (sound.unverified_bytes, sound.verify_ahead(1)) == (0, 0)

    damaged = mapped(UNITS, damaged=(5,))
    for _ in range(2):
        with pytest.raises(DamagedRowsError):
            damaged.verify_ahead(UNITS.nbytes)


def test_checksums_that_do_not_fit_the_rows_are_refused() -> None:
    """A block without a checksum would never be verified."""
    whole = BlockDigests(4)
    whole.update(UNITS)

    for digests in (whole.digests[:-1], (*whole.digests[:-1], "")):
        with pytest.raises(ValueError, match="checksums for 50 rows"):
            MappedRows(UNITS, "file", digests, 4)


def test_rows_in_files_and_memory_read_as_one_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks, single rows, views and all of them, wherever files end, also within a segment."""
    monkeypatch.setattr(rows_module, "SEGMENT_ROWS", 16)
    for files, first in (([16, 16, 3], 35), ([5], 5), ([16], 16), ([], 0)):
        rows, at = Rows(6), 0
        for count in files:
            rows.map(mapped(UNITS[at : at + count]))
            at += count
        for start in range(first, 50, 7):
            rows.add(UNITS[start : min(start + 7, 50)])

        assert np.array_equal(rows.all(), UNITS)
        for start, block in rows.blocks(6, 2, 47):
            assert np.array_equal(block, UNITS[start : start + len(block)])
            assert len(block) <= 6
        assert sum(len(block) for _, block in rows.blocks(6, 2, 47)) == 45
        chosen = np.array([49, 0, 34, 35, 36, 4, 5, 0])
        assert np.array_equal(rows.take(chosen), UNITS[chosen])
        for start in range(0, 48, 5):
            stop, touched = min(start + 5, 50), np.array([0, min(4, 49 - start), 0])
            assert np.array_equal(rows.view(start, stop, start + touched)[touched], UNITS[start + touched])
        assert rows.mapped_bytes == sum(files) * 24
        assert rows.memory_bytes + rows.mapped_bytes == UNITS.nbytes


def test_rows_behind_a_full_segment_are_never_copied_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Growing costs the new rows: the memory of a later segment stays where it is until it is full."""
    monkeypatch.setattr(rows_module, "SEGMENT_ROWS", 16)
    rows = Rows(6)
    rows.add(UNITS[:17])
    _, before = list(rows.blocks(99))[1]
    rows.add(UNITS[17:30])
    _, after = list(rows.blocks(99))[1]

    assert np.shares_memory(before, after)


def test_file_of_another_dimension_is_refused() -> None:
    """Its rows could not be compared."""
    with pytest.raises(ValueError, match="rows of 6 numbers, expected 7"):
        Rows(7).map(mapped(UNITS))


def test_index_answers_from_a_mapped_file_as_from_memory() -> None:
    """Same similarities and positions, rows added behind; a damaged block raises before it changes an answer."""
    plain, over_file = UniqueIndex(6), UniqueIndex(6)
    plain.add(UNITS)
    over_file.take_mapped(mapped(UNITS[:30]))
    over_file.add(UNITS[30:])
    queries = unit_rows(8, 9, 6)

    for expected, found in zip(plain.nearest(queries), over_file.nearest(queries), strict=True):
        assert np.array_equal(expected, found)
    broken = UniqueIndex(6)
    broken.take_mapped(mapped(UNITS, damaged=(20,)))
    with pytest.raises(DamagedRowsError, match=r"vectors-00000\.f32"):
        broken.nearest(queries)
