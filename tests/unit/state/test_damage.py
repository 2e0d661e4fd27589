"""Damage to the folder's files is noticed, named, and repaired from the changelog or refused."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from dugs_stream.core.index.files import seal, unseal
from dugs_stream.core.index.unique_index import UniqueIndex
from dugs_stream.errors import DamagedRowsError, StateError
from dugs_stream.records import ChangelogRow
from dugs_stream.state.store import StateStore
from tests.support.records.changelog import FINGERPRINT, Changelog, opened, recover, written

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("short_segments")]


@pytest.fixture
def changelog() -> Changelog:
    return Changelog.of(5, 6, 9)


@pytest.fixture
def folder(tmp_path: Path, changelog: Changelog) -> Path:
    """A folder with a snapshot after each of the three batches, the last covering 20 rows in three files."""
    path = tmp_path / "state"
    for end in (6, 13, 23):
        with opened(path) as (store, _):
            store.snapshot(recover(store, changelog.until(end)))
    return path


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)


def refill_and_compare(folder: Path, changelog: Changelog, files: list[str], rows: int = 20) -> None:
    """Open, expect exactly `files` to have lost rows, refill from the place named, compare everything, go on."""
    with opened(folder, verify=True) as (store, loaded):
        assert list(loaded.missing) == files
        store.refill(rows_from(changelog, min(loaded.missing.values())))
        index = recover(store, changelog)
        assert np.array_equal(index.vectors, changelog.vectors)
        assert store.events(0, 99) == [row.event for row in changelog.rows]
        changelog.commit(2)
        store.apply(changelog.rows[-2:], changelog.trailer, changelog.end)
        index.add(changelog.vectors[-2:])
        store.snapshot(index)
    with opened(folder) as (store, loaded):
        assert (loaded.missing, store.total) == ({}, rows + 2)


def rows_from(changelog: Changelog, position: int) -> Iterator[ChangelogRow]:
    return (entry for _, entry in changelog.entries[position:] if isinstance(entry, ChangelogRow))


def test_snapshot_torn_at_any_byte_gives_way_to_the_one_before(folder: Path, changelog: Changelog) -> None:
    """No prefix of the newest manifest is believed; it is set aside and named, and the older one counts."""
    newest = folder / "snapshot-000000000003.json"
    whole = newest.read_bytes()
    keep = folder.with_name("keep")
    for size in range(0, len(whole), 7):
        newest.write_bytes(whole[:size])
        shutil.copytree(folder, keep)
        with opened(keep) as (store, loaded):
            assert loaded.rows == 11
            assert [path.name for path in loaded.set_aside] == ["snapshot-000000000003.json.damaged"]
            assert not loaded.missing
            assert store.total == 11
        shutil.rmtree(keep)


def test_snapshot_with_any_flipped_bit_is_not_believed(folder: Path) -> None:
    """A changed manifest is as bad as a torn one."""
    whole = (folder / "snapshot-000000000003.json").read_bytes()

    for place in range(len(whole)):
        with pytest.raises(ValueError, match=r"not sealed facts|does not match the SHA-256"):
            unseal(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])


def test_no_snapshot_left_to_believe_starts_from_nothing(folder: Path, changelog: Changelog) -> None:
    """With every manifest damaged the folder is emptied and the changelog gives it all."""
    for path in folder.glob("snapshot-*.json"):
        path.write_bytes(b"{")

    with opened(folder) as (store, loaded):
        assert (loaded.snapshot, len(loaded.set_aside), store.total) == (None, 3, 0)
        assert written(store, recover(store, changelog)).rows == 20
    with opened(folder) as (store, loaded):
        assert (loaded.rows, loaded.missing) == (20, {})


def test_snapshot_goes_on_after_one_was_set_aside(folder: Path, changelog: Changelog) -> None:
    """The state that fell back is written again and outranks what was set aside."""
    (folder / "snapshot-000000000003.json").write_bytes(b"")
    with opened(folder) as (store, _):
        store.snapshot(recover(store, changelog))

    with opened(folder) as (store, loaded):
        assert (loaded.rows, loaded.set_aside) == (20, ())


def test_snapshot_of_another_format_is_refused(folder: Path) -> None:
    """A newer release's intact manifest is not damage: it says which version to run, and nothing is touched."""
    newest = folder / "snapshot-000000000003.json"
    newest.write_bytes(seal({**unseal(newest.read_bytes()), "format": 2}))

    with pytest.raises(
        StateError, match=r"has the format 2, this version of dugs-stream reads 1; .*dugs index reset"
    ):
        StateStore(folder, fingerprint=FINGERPRINT, dimension=8).open()
    assert newest.exists()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "flip": lambda file: flip(file, 70),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-1]),
    "zeros": lambda file: file.write_bytes(bytes(file.stat().st_size)),
    "older": lambda file: file.write_bytes(file.read_bytes()[: 3 * 8 * 4]),
    "remove": Path.unlink,
}


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_segment_is_refilled_alone(
    folder: Path, changelog: Changelog, number: int, damage: str
) -> None:
    """One damaged file of vectors is named with its rows and place in the changelog, and restored from there."""
    file = folder / f"vectors-{number:05d}.f32"
    DAMAGES[damage](file)

    refill_and_compare(folder, changelog, [file.name])


@pytest.mark.parametrize("number", [0, 1, 2])
def test_damage_is_noticed_before_an_answer(folder: Path, changelog: Changelog, number: int) -> None:
    """Opening reads no rows, so it finds a flipped bit in none; the first search that needs the row raises by its file."""
    flip(folder / f"vectors-{number:05d}.f32", 70)

    with opened(folder) as (store, loaded):
        assert not loaded.missing
        index = recover(store, changelog)
        with pytest.raises(DamagedRowsError, match=rf"^vectors-0000{number}\.f32 is damaged: .*changelog"):
            index.nearest(changelog.vectors[:1])


@pytest.mark.parametrize("damage", ["cut", "older", "remove"])
def test_file_that_is_too_short_is_found_without_reading(folder: Path, damage: str) -> None:
    """Using a map beyond the end of its file would end the process, so a plain opening looks at every size."""
    DAMAGES[damage](folder / "vectors-00001.f32")

    with opened(folder) as (_, loaded):
        assert list(loaded.missing) == ["vectors-00001.f32"]


def test_nothing_is_appended_to_a_damaged_file(folder: Path, changelog: Changelog) -> None:
    """A snapshot must not give damaged rows a new checksum: it raises, and leaves the file and the older snapshot."""
    file = folder / "vectors-00002.f32"
    flip(file, 3)
    before = file.read_bytes()

    with opened(folder) as (store, _):
        index = recover(store, changelog)
        changelog.commit(2)
        store.apply(changelog.rows[-2:], changelog.trailer, changelog.end)
        index.add(changelog.vectors[-2:])
        with pytest.raises(DamagedRowsError, match=r"vectors-00002\.f32 is damaged"):
            store.snapshot(index)

    assert file.read_bytes() == before
    refill_and_compare(folder, changelog, [file.name], rows=22)


def test_folder_of_an_earlier_version_is_verified_a_file_at_a_time(
    folder: Path, changelog: Changelog
) -> None:
    """Without checksums of blocks that of the whole file counts; the next snapshot adds those of the file that grows."""
    newest = folder / "snapshot-000000000003.json"
    newest.write_bytes(
        seal({key: value for key, value in unseal(newest.read_bytes()).items() if key != "blocks"})
    )
    with opened(folder) as (store, _):
        index = recover(store, changelog)
        assert np.array_equal(index.vectors, changelog.vectors)
        changelog.commit(2)
        store.apply(changelog.rows[-2:], changelog.trailer, changelog.end)
        index.add(changelog.vectors[-2:])
        store.snapshot(index)
        assert [len(segment.blocks) for segment in store.files.vectors.segments] == [0, 0, 1]
    flip(folder / "vectors-00000.f32", 9)

    with opened(folder) as (store, _), pytest.raises(DamagedRowsError, match=r"vectors-00000\.f32"):
        recover(store, changelog).nearest(changelog.vectors[:1])


def test_segment_names_the_part_of_the_changelog_that_holds_it(folder: Path, changelog: Changelog) -> None:
    """Refilling the last file reads from the snapshot before it, not from the beginning."""
    flip(folder / "vectors-00002.f32", 3)
    with opened(folder, verify=True) as (_, loaded):
        assert loaded.missing == {"vectors-00002.f32": 13}


def test_rows_beyond_the_snapshot_are_cut_off(folder: Path, changelog: Changelog) -> None:
    """A half-written append is neither believed nor in the way."""
    with (folder / "vectors-00002.f32").open("ab") as file:
        file.write(b"\1" * 45)
    (folder / "vectors-00003.f32").write_bytes(b"\1" * 7)

    with opened(folder) as (store, loaded):
        assert not loaded.missing
        assert store.total == 20
    assert (folder / "vectors-00002.f32").stat().st_size == 4 * 8 * 4
    assert not (folder / "vectors-00003.f32").exists()


def remove_last_event(file: Path) -> None:
    connection = sqlite3.connect(file)
    connection.execute("DELETE FROM events WHERE sequence = 19")
    connection.commit()
    connection.close()


def write_other_events(file: Path) -> None:
    other = Changelog.of(20).changed(3, event={"id": "samples/0/999"})
    elsewhere = file.parent.with_name("elsewhere")
    with opened(elsewhere) as (store, _):
        store.apply(other.rows, other.trailer, other.end)
        index = UniqueIndex(8)
        index.add(other.vectors)
        store.snapshot(index)
    shutil.copy(elsewhere / "metadata.db", file)


EVENT_DAMAGES: dict[str, Callable[[Path], object]] = {
    "remove": Path.unlink,
    "empty": lambda file: file.write_bytes(b""),
    "garbage": lambda file: file.write_bytes(b"no database" * 99),
    "torn": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "flip": lambda file: flip(file, file.read_bytes().index(b"samples/0/14")),
    "rows": remove_last_event,
    "other": write_other_events,
}


@pytest.mark.parametrize("damage", EVENT_DAMAGES)
def test_damaged_metadata_is_refilled(folder: Path, changelog: Changelog, damage: str) -> None:
    """Events that are missing, torn, changed or another folder's are named and restored from the changelog."""
    EVENT_DAMAGES[damage](folder / "metadata.db")

    refill_and_compare(folder, changelog, ["metadata.db"])


def test_everything_damaged_at_once_is_refilled(folder: Path, changelog: Changelog) -> None:
    """Several files are mended in one reading of the changelog."""
    flip(folder / "vectors-00000.f32", 0)
    flip(folder / "vectors-00002.f32", 1)
    (folder / "metadata.db").unlink()

    refill_and_compare(folder, changelog, ["vectors-00000.f32", "vectors-00002.f32", "metadata.db"])


def test_refill_takes_no_more_rows_than_it_needs(folder: Path, changelog: Changelog) -> None:
    """Once everything is whole the rest of the changelog is not read."""
    flip(folder / "vectors-00000.f32", 0)
    with opened(folder, verify=True) as (store, _):
        rows = rows_from(changelog, 0)
        store.refill(rows)
        assert next(rows).sequence == 8


@pytest.mark.parametrize("file", ["vectors-00001.f32", "metadata.db"])
def test_changelog_that_does_not_restore_what_was_lost_is_refused(
    folder: Path, changelog: Changelog, file: str
) -> None:
    """Other rows, or too few, are a StateError that names the file and the way out; the file stays damaged."""
    (folder / file).unlink()
    others = Changelog.of(5, 6, 9, seed=4)
    others.rows[9] = Changelog.of(10).changed(9, event={"id": "other"}).rows[9]

    for rows in (iter(changelog.rows[:12]), iter(others.rows)):
        with opened(folder) as (store, loaded):
            assert len(loaded.missing) == 1
            with pytest.raises(StateError, match=rf"{file} is damaged and .*`dugs index reset`"):
                store.refill(rows)


def test_damaged_state_that_is_forgotten_starts_from_nothing(folder: Path, changelog: Changelog) -> None:
    """Instead of a refill the folder may be emptied and the changelog replayed."""
    (folder / "vectors-00001.f32").unlink()
    with opened(folder) as (store, _):
        store.forget()
        store.snapshot(recover(store, changelog))

    with opened(folder) as (store, loaded):
        assert (loaded.rows, loaded.missing) == (20, {})


def test_draft_that_a_kill_left_behind_is_removed(folder: Path) -> None:
    """Half-written files never pile up, and are never taken for whole ones."""
    (folder / "snapshot-000000000004.json.part").write_bytes(b"{")

    with opened(folder) as (_, loaded):
        assert loaded.rows == 20
    assert list(folder.glob("*.part")) == []


def test_folder_that_cannot_be_written_is_a_named_error(folder: Path) -> None:
    """What is neither damage nor another model says what the system refused, and lets the lock go."""
    (folder / "metadata.db").unlink()
    (folder / "metadata.db").mkdir()

    for _ in range(2):
        with pytest.raises(StateError, match=r"cannot be used|cannot be opened"), opened(folder):
            pass


def test_manifest_says_what_it_covers_in_plain_json(folder: Path) -> None:
    """An operator can read what the state holds without this program."""
    facts = json.loads((folder / "snapshot-000000000003.json").read_text())["facts"]

    assert (facts["trailer"]["uniques"], facts["changelog_position"], facts["dimension"]) == (20, 23, 8)
