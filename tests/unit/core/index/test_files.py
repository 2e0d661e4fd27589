"""Sealed facts and the folder of a saved index: what is believed, and what is not."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from dugs_stream.core.index import files
from dugs_stream.core.index.files import seal, unseal
from dugs_stream.core.index.unique_index import UniqueIndex
from dugs_stream.errors import DamagedRowsError, StateError
from tests.support.oracles.unit_rows import Rows, unit_rows

FACTS = {"rows": 3, "group": "größe"}


def test_sealed_facts_are_read_back() -> None:
    """Unseal gives what was sealed, and the same facts have the same bytes in any order of their keys."""
    assert unseal(seal(FACTS)) == FACTS
    assert seal(FACTS) == seal(dict(reversed(FACTS.items())))


def test_facts_sealed_in_ascii_are_believed() -> None:
    """Earlier versions wrote letters beyond ASCII as escapes: the bytes as written count, not how we would write them."""
    written = json.dumps(FACTS, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(written.encode()).hexdigest()

    assert unseal(f'{{"facts":{written},"sha256":"{digest}"}}'.encode()) == FACTS


def test_changed_or_torn_facts_are_refused() -> None:
    """No byte changed, no prefix, nothing added, nothing at all: each is a ValueError."""
    whole = seal(FACTS)
    changed = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(len(whole))]

    for content in [*changed, *(whole[:end] for end in range(len(whole))), whole + b" ", seal({})[:9] + b"}"]:
        with pytest.raises(ValueError, match="does not match the SHA-256"):
            unseal(content)


def filled(rows: Rows) -> UniqueIndex:
    index = UniqueIndex(rows.shape[1])
    index.add(rows)
    return index


def test_saved_index_loads_equal(tmp_path: Path) -> None:
    """Load gives the rows of save, bit for bit, and its answers; saving again replaces what was there."""
    rows = unit_rows(20, 90, 16)
    filled(unit_rows(21, 5, 16)).save(tmp_path)
    filled(rows).save(tmp_path)

    loaded = UniqueIndex.load(tmp_path)

    assert np.array_equal(loaded.vectors, rows)
    assert loaded.dimension == 16
    assert len(list(tmp_path.glob("vectors-*"))) == 1


def test_empty_index_can_be_saved(tmp_path: Path) -> None:
    """No rows are a list too."""
    UniqueIndex(7).save(tmp_path / "new" / "folder")

    loaded = UniqueIndex.load(tmp_path / "new" / "folder")

    assert (len(loaded), loaded.dimension) == (0, 7)


def test_save_that_breaks_off_keeps_what_was_saved_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the manifest is renamed the earlier save is whole."""
    rows = unit_rows(22, 4, 8)
    filled(rows).save(tmp_path)

    def full_disk(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(files, "write_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        filled(unit_rows(23, 9, 8)).save(tmp_path)

    assert np.array_equal(UniqueIndex.load(tmp_path).vectors, rows)


def test_missing_folder_is_named(tmp_path: Path) -> None:
    """Loading a folder without a saved index names what is missing."""
    with pytest.raises(StateError, match=r"index\.json does not exist"):
        UniqueIndex.load(tmp_path)


def test_folder_in_the_manifests_place_is_refused_by_name(tmp_path: Path) -> None:
    """By loading and by saving, which leaves the rest of the folder alone."""
    (tmp_path / "index.json").mkdir()

    for use in (lambda: UniqueIndex.load(tmp_path), lambda: filled(unit_rows(24, 4, 8)).save(tmp_path)):
        with pytest.raises(StateError, match=r"index\.json is a folder, expected the file"):
            use()
    assert [path.name for path in tmp_path.iterdir()] == ["index.json"]


def test_manifest_torn_at_any_byte_is_refused_by_name(tmp_path: Path) -> None:
    """No prefix of the manifest is believed."""
    filled(unit_rows(24, 4, 8)).save(tmp_path)
    manifest = tmp_path / "index.json"
    whole = manifest.read_bytes()

    for size in range(len(whole)):
        manifest.write_bytes(whole[:size])
        with pytest.raises(StateError, match=r"index\.json is damaged"):
            UniqueIndex.load(tmp_path)


def test_damaged_rows_are_refused_by_name(tmp_path: Path) -> None:
    """A shortened, lengthened or missing file of rows is refused when it is loaded, a changed one before the first answer."""
    filled(unit_rows(25, 40, 8)).save(tmp_path)
    (file,) = tmp_path.glob("vectors-*.f32")
    whole = file.read_bytes()
    flipped = whole[:77] + bytes([whole[77] ^ 1]) + whole[78:]

    for content in (whole[:-1], whole + b"\0", None):
        file.unlink() if content is None else file.write_bytes(content)
        with pytest.raises(StateError, match=f"{file.name} is (damaged|missing)"):
            UniqueIndex.load(tmp_path)
    file.write_bytes(flipped)
    loaded = UniqueIndex.load(tmp_path)
    for use in (
        lambda: loaded.nearest(unit_rows(1, 2, 8)),
        lambda: loaded.vectors,
        lambda: loaded.save(tmp_path),
    ):
        with pytest.raises(DamagedRowsError, match=f"{file.name} is damaged"):
            use()


@pytest.mark.parametrize("blocks", ["whole", "damaged", "missing"])
def test_long_files_are_verified_by_blocks_or_whole(tmp_path: Path, blocks: str) -> None:
    """Checksums of blocks spare reading the rest; without them the file's own counts. Damage is noticed either way."""
    rows = unit_rows(26, 2_500, 4)
    filled(rows).save(tmp_path)
    (file,) = tmp_path.glob("vectors-*.f32")
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    if blocks == "damaged":
        (tmp_path / "blocks.json").write_bytes(b"{}")
    elif blocks == "missing":
        (tmp_path / "blocks.json").unlink()

    loaded = UniqueIndex.load(tmp_path)

    if blocks == "whole":
        assert np.array_equal(loaded.rows(0, 2_048), rows[:2_048])
    else:
        with pytest.raises(DamagedRowsError):
            loaded.rows(0, 1)
    with pytest.raises(DamagedRowsError):
        loaded.rows(2_499, 2_500)
