"""What is kept for the page: within its limit, thrown away where it cannot be believed, never in anybody's way."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from dugs_stream.ops.gallery.thumbnail_store import (
    PLACE_OF_UNIQUE,
    Absorbed,
    Example,
    Picture,
    ThumbnailStore,
)
from dugs_stream.ops.gallery.thumbnails import Thumbnail

MEBI = 2**20


def store_at(folder: Path, limit_bytes: int = 4 * MEBI, list_name: str = "one list") -> ThumbnailStore:
    """A store that may be there already."""
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
    thumbnails = store_at(tmp_path)
    thumbnails.keep([own, other], [example], {7: 3})
    thumbnails.keep([], [], {7: 2, 8: 1})
    thumbnails.close()

    again = store_at(tmp_path)
    shown = Example(7, 1, "dugs.samples/0/9", 0.5, 3, "cat", has_picture=True)
    assert again.absorbed([6, 7, 8]) == {7: Absorbed(5, (shown,)), 8: Absorbed(1, ())}
    assert (again.picture(7, 0), again.picture(7, 1)) == (own.thumbnail, other.thumbnail)
    assert again.pictured(range(20)) == {7}
    assert again.examples_kept([7, 8]) == {7: 1}
    assert again.since_ms is not None
    again.close()


def test_limit_holds_and_the_oldest_go_first(tmp_path: Path) -> None:
    """At every moment; the counts outlive the pictures, and the newest picture is always there."""
    thumbnails = store_at(tmp_path, MEBI)
    for sequence in range(400):
        thumbnails.keep(
            [picture(sequence), picture(sequence, 1, 5_000)],
            [Example(sequence, 1, "id", 0.5, 1, None)],
            {sequence: 1},
        )
        assert bytes_in(tmp_path) <= MEBI
        assert sequence in thumbnails.pictured([sequence])

    kept = sorted(thumbnails.pictured(range(400)))
    assert kept == list(range(kept[0], 400))
    assert len(kept) > 40
    assert len(thumbnails.absorbed(range(400))) == 400
    thumbnails.close()


def test_much_at_once_makes_room_for_itself(tmp_path: Path) -> None:
    """However little an earlier sixteenth was."""
    thumbnails = store_at(tmp_path, MEBI)
    for sequence in range(60):
        thumbnails.keep([picture(sequence)], [], {})
    thumbnails.keep([picture(sequence) for sequence in range(60, 140)], [], {})

    assert thumbnails.pictured(range(60, 140)) == set(range(60, 140))
    assert bytes_in(tmp_path) <= MEBI
    thumbnails.close()


def test_more_than_the_limit_is_refused(tmp_path: Path) -> None:
    """For its caller to shrug off; what comes later is kept."""
    thumbnails = store_at(tmp_path, MEBI)

    with pytest.raises(sqlite3.OperationalError, match="full"):
        thumbnails.keep([picture(0, size=2 * MEBI)], [], {0: 1})
    thumbnails.keep([picture(1)], [], {})
    assert thumbnails.absorbed([0]) == {}
    assert thumbnails.pictured([0, 1]) == {1}
    thumbnails.close()


def test_lower_limit_holds_after_a_restart(tmp_path: Path) -> None:
    """What was kept under the larger one is given up."""
    thumbnails = store_at(tmp_path, 4 * MEBI)
    for sequence in range(500):
        thumbnails.keep([picture(sequence)], [], {})
    thumbnails.close()
    assert bytes_in(tmp_path) > MEBI

    thumbnails = store_at(tmp_path, MEBI)
    thumbnails.keep([picture(500)], [], {})

    assert bytes_in(tmp_path) <= MEBI
    assert thumbnails.pictured(range(501)) == {500}
    thumbnails.close()


def test_folder_is_made_with_the_first_thing_to_keep_and_is_its_owners_alone(tmp_path: Path) -> None:
    """Looking makes nothing: until the daemon has the lock, the folder may be another process's."""
    thumbnails = store_at(tmp_path)
    assert thumbnails.picture(0, 0) is None
    assert thumbnails.absorbed([0]) == {}
    assert not (tmp_path / "page").exists()
    thumbnails.keep([picture(0)], [], {})

    assert (tmp_path / "page").stat().st_mode & 0o777 == 0o700
    thumbnails.close()


def test_store_of_another_list_is_not_shown_and_started_over(tmp_path: Path) -> None:
    """Sequence numbers count other records there."""
    thumbnails = store_at(tmp_path)
    thumbnails.keep([picture(0)], [], {0: 5})
    thumbnails.close()
    other = store_at(tmp_path, list_name="another list")

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
def test_damaged_store_is_started_over(tmp_path: Path, damage: bytes) -> None:
    """It reads as empty, and the next thing to keep makes a new one."""
    thumbnails = store_at(tmp_path)
    thumbnails.keep([picture(0)], [], {})
    thumbnails.close()
    (tmp_path / "page" / "album.db").write_bytes(damage)
    thumbnails = store_at(tmp_path)

    assert thumbnails.picture(0, 0) is None
    thumbnails.keep([picture(1)], [], {1: 1})
    assert thumbnails.pictured([0, 1]) == {1}
    thumbnails.close()


def test_store_that_is_damaged_while_it_is_open_is_started_over(tmp_path: Path) -> None:
    """A disk may fail at any time."""
    thumbnails = store_at(tmp_path)
    for sequence in range(40):
        thumbnails.keep([picture(sequence)], [], {sequence: 1})
    path = tmp_path / "page" / "album.db"
    path.write_bytes(b"\xff" * path.stat().st_size)

    assert thumbnails.pictured([0]) == set()
    thumbnails.keep([picture(41)], [], {})
    assert thumbnails.pictured([0, 41]) == {41}
    thumbnails.close()


def test_folder_that_cannot_be_made_is_an_error_of_the_system(tmp_path: Path) -> None:
    """For its caller to shrug off."""
    (tmp_path / "page").write_text("a file is in the way")
    thumbnails = store_at(tmp_path)

    with pytest.raises((OSError, sqlite3.Error)):
        thumbnails.keep([picture(0)], [], {})
    assert thumbnails.picture(0, 0) is None
    thumbnails.close()


def test_closed_store_shows_and_keeps_nothing(tmp_path: Path) -> None:
    """A question that comes while the daemon leaves is answered with nothing."""
    thumbnails = store_at(tmp_path)
    thumbnails.keep([picture(0)], [], {})
    thumbnails.close()

    assert thumbnails.picture(0, 0) is None
    with pytest.raises(sqlite3.Error):
        thumbnails.keep([picture(1)], [], {})
