"""The thumbnail store: within its limit, deleted if damaged or of another list, never an obstacle."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
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


OpenStore = Callable[..., ThumbnailStore]


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[OpenStore]:
    """Opens the store of this test, again each time; all are closed at its end."""
    with ExitStack() as opened:

        def open_store(limit_bytes: int = 4 * MEBI, list_name: str = "one list") -> ThumbnailStore:
            store = ThumbnailStore(tmp_path / "page", limit_bytes=limit_bytes, list_name=list_name)
            return opened.enter_context(closing(store))

        yield open_store


def picture(sequence: int, place: int = PLACE_OF_UNIQUE, size: int = 3_000) -> Picture:
    """Random bytes: the store does not decode them."""
    return Picture(sequence, place, Thumbnail("image/png", os.urandom(size)))


def bytes_in(folder: Path) -> int:
    """Size on disk."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_what_is_kept_is_found_again_after_a_restart(open_store: OpenStore) -> None:
    """Pictures, examples and counts; counts add up."""
    own, other = picture(7), picture(7, 1)
    example = Example(7, 1, "dugs.samples/0/9", 0.5, 3, "cat")
    thumbnails = open_store()
    thumbnails.keep([own, other], [example], {7: 3})
    thumbnails.keep([], [], {7: 2, 8: 1})
    thumbnails.close()

    again = open_store()
    shown = Example(7, 1, "dugs.samples/0/9", 0.5, 3, "cat", has_picture=True)
    assert again.absorbed([6, 7, 8]) == {7: Absorbed(5, (shown,)), 8: Absorbed(1, ())}
    assert (again.picture(7, 0), again.picture(7, 1)) == (own.thumbnail, other.thumbnail)
    assert again.pictured(range(20)) == {7}
    assert again.examples_kept([7, 8]) == {7: 1}
    assert again.since_ms is not None


def test_limit_holds_and_the_oldest_go_first(open_store: OpenStore, tmp_path: Path) -> None:
    """At every moment; the counts outlive the pictures, and the newest picture is always there."""
    thumbnails = open_store(MEBI)
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


def test_much_at_once_makes_room_for_itself(open_store: OpenStore, tmp_path: Path) -> None:
    """Also when a sixteenth of what was kept before is too little."""
    thumbnails = open_store(MEBI)
    for sequence in range(60):
        thumbnails.keep([picture(sequence)], [], {})
    thumbnails.keep([picture(sequence) for sequence in range(60, 140)], [], {})

    assert thumbnails.pictured(range(60, 140)) == set(range(60, 140))
    assert bytes_in(tmp_path) <= MEBI


def test_more_than_the_limit_is_refused(open_store: OpenStore) -> None:
    """Its caller ignores it; what comes later is kept."""
    thumbnails = open_store(MEBI)

    with pytest.raises(sqlite3.OperationalError, match="full"):
        thumbnails.keep([picture(0, size=2 * MEBI)], [], {0: 1})
    thumbnails.keep([picture(1)], [], {})
    assert thumbnails.absorbed([0]) == {}
    assert thumbnails.pictured([0, 1]) == {1}


def test_lower_limit_holds_after_a_restart(open_store: OpenStore, tmp_path: Path) -> None:
    """What was kept under the larger one is deleted."""
    thumbnails = open_store(4 * MEBI)
    for sequence in range(500):
        thumbnails.keep([picture(sequence)], [], {})
    thumbnails.close()
    assert bytes_in(tmp_path) > MEBI

    thumbnails = open_store(MEBI)
    thumbnails.keep([picture(500)], [], {})

    assert bytes_in(tmp_path) <= MEBI
    assert thumbnails.pictured(range(501)) == {500}


def test_folder_is_made_with_the_first_thing_to_keep_and_is_its_owners_alone(
    open_store: OpenStore, tmp_path: Path
) -> None:
    """Reading makes nothing: until the daemon has the lock, the folder may be another process's."""
    thumbnails = open_store()
    assert thumbnails.picture(0, 0) is None
    assert thumbnails.absorbed([0]) == {}
    assert not (tmp_path / "page").exists()
    thumbnails.keep([picture(0)], [], {})

    assert (tmp_path / "page").stat().st_mode & 0o777 == 0o700


def test_store_of_another_list_is_not_shown_and_started_over(open_store: OpenStore) -> None:
    """Sequence numbers count other records there."""
    thumbnails = open_store()
    thumbnails.keep([picture(0)], [], {0: 5})
    thumbnails.close()
    other = open_store(list_name="another list")

    assert other.pictured([0]) == set()
    assert other.since_ms is None
    other.keep([picture(1)], [], {})
    assert other.pictured([0, 1]) == {1}
    assert other.absorbed([0]) == {}


@pytest.mark.parametrize(
    "damage",
    [b"no database at all" * 500, b"", b"SQLite format 3\x00" + os.urandom(9_000)],
    ids=["text", "empty", "noise"],
)
def test_damaged_store_is_started_over(open_store: OpenStore, tmp_path: Path, damage: bytes) -> None:
    """It reads as empty, and the next `keep` makes a new one."""
    thumbnails = open_store()
    thumbnails.keep([picture(0)], [], {})
    thumbnails.close()
    (tmp_path / "page" / "album.db").write_bytes(damage)
    thumbnails = open_store()

    assert thumbnails.picture(0, 0) is None
    thumbnails.keep([picture(1)], [], {1: 1})
    assert thumbnails.pictured([0, 1]) == {1}


def test_store_that_is_damaged_while_it_is_open_is_started_over(
    open_store: OpenStore, tmp_path: Path
) -> None:
    """A disk may fail at any time."""
    thumbnails = open_store()
    for sequence in range(40):
        thumbnails.keep([picture(sequence)], [], {sequence: 1})
    path = tmp_path / "page" / "album.db"
    path.write_bytes(b"\xff" * path.stat().st_size)

    assert thumbnails.pictured([0]) == set()
    thumbnails.keep([picture(41)], [], {})
    assert thumbnails.pictured([0, 41]) == {41}


def test_folder_that_cannot_be_made_is_an_error_of_the_system(open_store: OpenStore, tmp_path: Path) -> None:
    """Its caller ignores it."""
    (tmp_path / "page").write_text("a file is in the way")
    thumbnails = open_store()

    with pytest.raises((OSError, sqlite3.Error)):
        thumbnails.keep([picture(0)], [], {})
    assert thumbnails.picture(0, 0) is None


def test_closed_store_shows_and_keeps_nothing(open_store: OpenStore) -> None:
    """A request during shutdown gets nothing."""
    thumbnails = open_store()
    thumbnails.keep([picture(0)], [], {})
    thumbnails.close()

    assert thumbnails.picture(0, 0) is None
    with pytest.raises(sqlite3.Error):
        thumbnails.keep([picture(1)], [], {})
