"""The stored prefix of a list: appended to, named by its basis, believed only as far as a manifest and its checksums go."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dugs_stream.core.index.files import PrefixFacts, PrefixFiles
from dugs_stream.core.index.rows import Rows
from dugs_stream.core.index.unique_index import UniqueIndex
from dugs_stream.errors import DamagedRowsError
from tests.support.oracles.unit_rows import unit_rows

BASIS = np.linalg.qr(unit_rows(3, 9, 9).astype(np.float64))[0][:, :4]
ROWS = unit_rows(4, 2_600, 5)


def rows_of(count: int) -> Rows:
    rows = Rows(5)
    rows.add(ROWS[:count])
    return rows


def test_stored_prefix_grows_by_its_new_rows(tmp_path: Path) -> None:
    """Each call appends; another process goes on behind what the manifest counts, over what it does not."""
    files = PrefixFiles(tmp_path)
    files.write(BASIS, rows_of(1_000))
    first = files.write(BASIS, rows_of(1_500))
    (path,) = tmp_path.glob("*.f32")
    with path.open("ab") as file:
        file.write(b"torn by a kill")

    again = PrefixFiles(tmp_path)
    stored = again.load(first, 9)
    assert stored is not None
    assert np.array_equal(stored.basis, BASIS)
    assert np.array_equal(stored.rows.all(), ROWS[:1_500])
    stored.rows.add(ROWS[1_500:])
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    second = again.write(BASIS, stored.rows)

    assert second == PrefixFiles(elsewhere).write(BASIS, rows_of(2_600))
    assert path.read_bytes() == ROWS.tobytes()
    earlier = PrefixFiles(tmp_path).load(first, 9)
    assert earlier is not None
    assert np.array_equal(earlier.rows.all(), ROWS[:1_500])


def test_other_basis_has_files_of_its_own_and_the_old_ones_can_go(tmp_path: Path) -> None:
    """Until they are removed an earlier manifest finds its prefix."""
    files = PrefixFiles(tmp_path)
    old = files.write(BASIS, rows_of(9))
    new = files.write(-BASIS, rows_of(12))
    assert [PrefixFiles(tmp_path).load(facts, 9) is not None for facts in (old, new)] == [True, True]

    files.remove_others(new)
    assert [PrefixFiles(tmp_path).load(facts, 9) is not None for facts in (old, new)] == [False, True]
    files.remove_others(None)
    assert list(tmp_path.glob("prefix-*")) == []


@pytest.mark.parametrize("damage", ["basis", "missing", "short", "last block", "first block"])
def test_damaged_prefix_is_not_used(tmp_path: Path, damage: str) -> None:
    """It is None at loading, or raises before its rows are used; a verifying load finds all of it."""
    facts = PrefixFiles(tmp_path).write(BASIS, rows_of(2_600))
    (rows,), (basis,) = tmp_path.glob("*.f32"), tmp_path.glob("*.f64")
    content = bytearray(rows.read_bytes())
    if damage == "basis":
        basis.write_bytes(bytes(basis.stat().st_size))
    elif damage == "missing":
        rows.unlink()
    elif damage == "short":
        rows.write_bytes(content[:-1])
    else:
        content[-1 if damage == "last block" else 0] ^= 1
        rows.write_bytes(content)

    loaded = PrefixFiles(tmp_path).load(facts, 9)

    assert PrefixFiles(tmp_path).load(facts, 9, verify=True) is None
    if damage == "first block":
        assert loaded is not None
        with pytest.raises(DamagedRowsError, match=r"prefix-.*\.f32 is damaged"):
            loaded.rows.all()
    else:
        assert loaded is None


def test_manifest_without_rows_or_of_another_basis_gives_no_prefix(tmp_path: Path) -> None:
    """Nothing to map is nothing to use."""
    files = PrefixFiles(tmp_path)
    files.write(BASIS, rows_of(3))

    for facts in (PrefixFacts("0" * 64, 5, 3, ("0" * 32,)), PrefixFacts("0" * 64, 5, 0, ())):
        assert files.load(facts, 9) is None


def test_damaged_prefix_rows_cost_a_list_its_prefix_and_no_answer(tmp_path: Path) -> None:
    """They are noticed at their first use; the list itself is whole."""
    steep = np.exp(-np.arange(200) / 10) * np.random.default_rng(2).standard_normal((2_600, 200))
    rows = (steep / np.linalg.norm(steep, axis=1, keepdims=True)).astype(np.float32)
    index = UniqueIndex(200, prefix_from=64, graph_from=None)
    for start in range(0, len(rows), 100):
        index.add(rows[start : start + 100])
        index.nearest(rows[start : start + 40], 0.9)
    assert index.prefix is not None
    index.save(tmp_path)
    (path,) = tmp_path.glob("prefix-*.f32")
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0x40
    path.write_bytes(content)

    loaded = UniqueIndex.load(tmp_path, prefix_from=64, graph_from=None)
    assert loaded.prefix is not None
    similarity, position = loaded.nearest(rows[::50])

    assert loaded.prefix is None
    assert np.array_equal(position, np.arange(0, len(rows), 50))
    assert similarity == pytest.approx(1, abs=1e-6)
