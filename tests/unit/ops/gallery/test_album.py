"""What is kept for the page: within its limit, thrown away where it cannot be believed, never in anybody's way."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from dugs_stream.ops.gallery.album import PLACE_OF_UNIQUE, Absorbed, Example, Picture, ThumbnailStore
from dugs_stream.ops.gallery.thumbnails import Thumbnail

MEBI = 2**20


def album_at(folder: Path, limit_bytes: int = 4 * MEBI, list_name: str = "one list") -> ThumbnailStore:
    """An album that may be there already."""
    return ThumbnailStore(folder / "page", limit_bytes=limit_bytes, list_name=list_name)


def picture(sequence: int, place: int = PLACE_OF_UNIQUE, size: int = 3_000) -> Picture:
    """Some bytes; nothing here looks at them."""
    return Picture(sequence, place, Thumbnail("image/png", os.urandom(size)))


def bytes_in(folder: Path) -> int:
    """What it takes of the disk."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_what_is_kept_is_found_again_after_a_restart(tmp_path: Path) -> None:
    """Pictures, examples and counts; counts add up."""
    own, other = picture(7), picture(7, 1)
    example = Example(7, 1, "dugs.samples/0/9", 0.5, 3, "cat")
    album = album_at(tmp_path)
    album.keep([own, other], [example], {7: 3})
    album.keep([], [], {7: 2, 8: 1})
    album.close()

    again = album_at(tmp_path)
    shown = Example(7, 1, "dugs.samples/0/9", 0.5, 3, "cat", has_picture=True)
    assert again.absorbed([6, 7, 8]) == {7: Absorbed(5, (shown,)), 8: Absorbed(1, ())}
    assert (again.picture(7, 0), again.picture(7, 1)) == (own.thumbnail, other.thumbnail)
    assert again.pictured(range(20)) == {7}
    assert again.examples_kept([7, 8]) == {7: 1}
    assert again.since_ms is not None
    again.close()


def test_limit_holds_and_the_oldest_go_first(tmp_path: Path) -> None:
    """At every moment; the counts outlive the pictures, and the newest picture is always there."""
    album = album_at(tmp_path, MEBI)
    for sequence in range(400):
        album.keep(
            [picture(sequence), picture(sequence, 1, 5_000)],
            [Example(sequence, 1, "id", 0.5, 1, None)],
            {sequence: 1},
        )
        assert bytes_in(tmp_path) <= MEBI
        assert sequence in album.pictured([sequence])

    kept = sorted(album.pictured(range(400)))
    assert kept == list(range(kept[0], 400))
    assert len(kept) > 40
    assert len(album.absorbed(range(400))) == 400
    album.close()


def test_much_at_once_makes_room_for_itself(tmp_path: Path) -> None:
    """However little an earlier sixteenth was."""
    album = album_at(tmp_path, MEBI)
    for sequence in range(60):
        album.keep([picture(sequence)], [], {})
    album.keep([picture(sequence) for sequence in range(60, 140)], [], {})

    assert album.pictured(range(60, 140)) == set(range(60, 140))
    assert bytes_in(tmp_path) <= MEBI
    album.close()


def test_more_than_the_limit_is_refused(tmp_path: Path) -> None:
    """For its caller to shrug off; what comes later is kept."""
    album = album_at(tmp_path, MEBI)

    with pytest.raises(sqlite3.OperationalError, match="full"):
        album.keep([picture(0, size=2 * MEBI)], [], {0: 1})
    album.keep([picture(1)], [], {})
    assert album.absorbed([0]) == {}
    assert album.pictured([0, 1]) == {1}
    album.close()


def test_lower_limit_holds_after_a_restart(tmp_path: Path) -> None:
    """What was kept under the larger one is given up."""
    album = album_at(tmp_path, 4 * MEBI)
    for sequence in range(500):
        album.keep([picture(sequence)], [], {})
    album.close()
    assert bytes_in(tmp_path) > MEBI

    album = album_at(tmp_path, MEBI)
    album.keep([picture(500)], [], {})

    assert bytes_in(tmp_path) <= MEBI
    assert album.pictured(range(501)) == {500}
    album.close()


def test_folder_is_made_with_the_first_thing_to_keep_and_is_its_owners_alone(tmp_path: Path) -> None:
    """Looking makes nothing: until the daemon has the lock, the folder may be another process's."""
    album = album_at(tmp_path)
    assert album.picture(0, 0) is None
    assert album.absorbed([0]) == {}
    assert not (tmp_path / "page").exists()
    album.keep([picture(0)], [], {})

    assert (tmp_path / "page").stat().st_mode & 0o777 == 0o700
    album.close()


def test_album_of_another_list_is_not_shown_and_started_over(tmp_path: Path) -> None:
    """Sequence numbers count other records there."""
    album = album_at(tmp_path)
    album.keep([picture(0)], [], {0: 5})
    album.close()
    other = album_at(tmp_path, list_name="another list")

    assert other.pictured([0]) == set()
    assert other.since_ms is None
    other.keep([picture(1)], [], {})
    assert other.pictured([0, 1]) == {1}
    assert other.absorbed([0]) == {}
    other.close()


@pytest.mark.parametrize(
    "damage",
    [b"no database at all" * 500, b"", b"SQLite format 3\x00" + os.urandom(9_000)],
    ids=["text", "empty", "noise"],
)
def test_damaged_album_is_started_over(tmp_path: Path, damage: bytes) -> None:
    """It reads as empty, and the next thing to keep makes a new one."""
    album = album_at(tmp_path)
    album.keep([picture(0)], [], {})
    album.close()
    (tmp_path / "page" / "album.db").write_bytes(damage)
    album = album_at(tmp_path)

    assert album.picture(0, 0) is None
    album.keep([picture(1)], [], {1: 1})
    assert album.pictured([0, 1]) == {1}
    album.close()


def test_album_that_is_damaged_while_it_is_open_is_started_over(tmp_path: Path) -> None:
    """A disk may fail at any time."""
    album = album_at(tmp_path)
    for sequence in range(40):
        album.keep([picture(sequence)], [], {sequence: 1})
    path = tmp_path / "page" / "album.db"
    path.write_bytes(b"\xff" * path.stat().st_size)

    assert album.pictured([0]) == set()
    album.keep([picture(41)], [], {})
    assert album.pictured([0, 41]) == {41}
    album.close()


def test_folder_that_cannot_be_made_is_an_error_of_the_system(tmp_path: Path) -> None:
    """For its caller to shrug off."""
    (tmp_path / "page").write_text("a file is in the way")
    album = album_at(tmp_path)

    with pytest.raises((OSError, sqlite3.Error)):
        album.keep([picture(0)], [], {})
    assert album.picture(0, 0) is None
    album.close()


def test_closed_album_shows_and_keeps_nothing(tmp_path: Path) -> None:
    """A question that comes while the daemon leaves is answered with nothing."""
    album = album_at(tmp_path)
    album.keep([picture(0)], [], {})
    album.close()

    assert album.picture(0, 0) is None
    with pytest.raises(sqlite3.Error):
        album.keep([picture(1)], [], {})
