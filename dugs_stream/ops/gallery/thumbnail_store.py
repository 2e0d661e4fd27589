"""Store of thumbnails and duplicate counts on disk: one SQLite file of bounded size.

Best effort: the file never grows beyond its limit, drops its oldest pictures first, and is deleted if it is damaged
or belongs to another list of uniques. No decision depends on it. One writer; readers from any thread.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from dugs_stream.ops.gallery.thumbnails import TEXT, Thumbnail
from dugs_stream.sqlite import is_damage, transaction

PLACE_OF_UNIQUE = 0
"""Place of a unique's own picture; its examples have the places from 1 on."""

PAGE_FOLDER = "page"
"""The store's folder within the state folder, so that one lock and one owner hold for both."""

_FILE = "album.db"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pictures (
    id INTEGER PRIMARY KEY, sequence INTEGER NOT NULL, place INTEGER NOT NULL, media_type TEXT NOT NULL,
    encoded BLOB NOT NULL, UNIQUE (sequence, place));
CREATE TABLE IF NOT EXISTS examples (
    id INTEGER PRIMARY KEY, sequence INTEGER NOT NULL, place INTEGER NOT NULL, record TEXT NOT NULL,
    similarity REAL, label INTEGER, label_name TEXT, UNIQUE (sequence, place));
CREATE TABLE IF NOT EXISTS absorbed (sequence INTEGER PRIMARY KEY, count INTEGER NOT NULL);
"""
# The database may fill this share of the limit; the rest is for the journal of a transaction.
_SHARE_FOR_DATABASE = 7 / 8
_PAGE_BYTES = 4096
# Room for the tables themselves.
_FEWEST_PAGES = 32
# Dropping a sixteenth at a time makes room for many, and keeps nearly all.
_SHARE_DELETED = 16
# Another process has this file open only by mistake; a picture is not worth a long wait.
_BUSY_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Picture:
    """A thumbnail, its unique and its place."""

    sequence: int
    place: int
    thumbnail: Thumbnail


@dataclass(frozen=True, slots=True)
class Example:
    """A duplicate that a unique absorbed."""

    sequence: int
    place: int
    record: str
    similarity: float | None
    label: int | None
    label_name: str | None
    has_picture: bool = False
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Absorbed:
    """The known number of duplicates of a unique, and the first few of them."""

    count: int
    examples: tuple[Example, ...]


class ThumbnailStore:
    """The file `album.db` in a folder of its own, which the first `keep` makes.

    list_name  names the list of uniques: what was kept under another name is not shown, and the next `keep`
               deletes it
    """

    def __init__(self, folder: Path, *, limit_bytes: int, list_name: str) -> None:
        self._folder = folder
        self._path = folder / _FILE
        self._limit_bytes = limit_bytes
        self._list_name = list_name
        self._lock = Lock()
        self._connection: sqlite3.Connection | None = None
        self._closed = False

    # Writing

    def keep(
        self, pictures: Sequence[Picture], examples: Sequence[Example], counts: Mapping[int, int]
    ) -> None:
        """Add all or nothing. Raises OSError or sqlite3.Error if the disk refuses.

        counts  how many more duplicates each unique absorbed
        """
        with self._lock:
            try:
                self._keep(pictures, examples, counts)
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                self._start_over()
                self._keep(pictures, examples, counts)

    def _keep(
        self, pictures: Sequence[Picture], examples: Sequence[Example], counts: Mapping[int, int]
    ) -> None:
        connection = self._opened_to_write()
        for attempt in range(_SHARE_DELETED):
            try:
                _insert(connection, pictures, examples, counts)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_FULL or attempt == _SHARE_DELETED - 1:
                    raise
                _delete_oldest(connection)
            else:
                return

    def _opened_to_write(self) -> sqlite3.Connection:
        if self._connection is None:
            self._folder.mkdir(mode=0o700, exist_ok=True)  # the state folder above it exists
            # A file made under a larger limit would not shrink.
            if self._path.exists() and self._path.stat().st_size > self._limit_bytes:
                self._remove_files()
            self._connection = self._connect()
        if _stored_list_name(self._connection) != self._list_name:
            self._start_over()
        return self._connection

    def _start_over(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self._remove_files()
        self._connection = self._connect()
        facts = (("list", self._list_name), ("since", str(int(time.time() * 1000))))
        with transaction(self._connection) as connection:
            connection.executemany("INSERT INTO facts VALUES (?, ?)", facts)

    def _remove_files(self) -> None:
        for suffix in ("", "-journal"):
            self._path.with_name(_FILE + suffix).unlink(missing_ok=True)

    def _connect(self) -> sqlite3.Connection:
        if self._closed:
            raise sqlite3.ProgrammingError("the thumbnail store is closed")
        connection = sqlite3.connect(
            self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            pages = max(_FEWEST_PAGES, int(self._limit_bytes * _SHARE_FOR_DATABASE) // _PAGE_BYTES)
            connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
            connection.execute(f"PRAGMA max_page_count = {pages}")
            # Best effort: not worth an fsync; a power cut may cost the file.
            connection.execute("PRAGMA synchronous = OFF")
            connection.executescript(_SCHEMA)
        except BaseException:
            connection.close()
            raise
        return connection

    # Reading; what cannot be read counts as missing

    def examples_kept(self, sequences: Iterable[int]) -> dict[int, int]:
        """Number of examples of each of these uniques."""
        found = self._rows(
            "SELECT sequence, MAX(place) FROM examples WHERE sequence IN (SELECT value FROM json_each(?)) "
            "GROUP BY sequence",
            _listed(sequences),
        )
        return dict(found)

    def absorbed(self, sequences: Sequence[int]) -> dict[int, Absorbed]:
        """What each of these uniques absorbed; without those that nothing is known of."""
        examples: dict[int, list[Example]] = {}
        for sequence, place, record, similarity, label, name, media_type, text in self._rows(
            "SELECT e.sequence, e.place, e.record, e.similarity, e.label, e.label_name, p.media_type, "
            "CASE p.media_type WHEN ? THEN p.encoded END "
            "FROM examples e LEFT JOIN pictures p ON p.sequence = e.sequence AND p.place = e.place "
            "WHERE e.sequence IN (SELECT value FROM json_each(?)) ORDER BY e.sequence, e.place",
            (TEXT, *_listed(sequences)),
        ):
            is_picture = media_type not in {None, TEXT}
            shown = None if text is None else text.decode()
            example = Example(sequence, place, record, similarity, label, name, is_picture, shown)
            examples.setdefault(sequence, []).append(example)
        counts = self._rows(
            "SELECT sequence, count FROM absorbed WHERE sequence IN (SELECT value FROM json_each(?))",
            _listed(sequences),
        )
        return {sequence: Absorbed(count, tuple(examples.get(sequence, ()))) for sequence, count in counts}

    def duplicate_counts(self) -> dict[int, int]:
        """How many duplicates each unique absorbed, of all that anything is known of."""
        return dict(self._rows("SELECT sequence, count FROM absorbed", ()))

    def pictured(self, sequences: Iterable[int]) -> set[int]:
        """Which of these uniques have a picture of their own."""
        found = self._rows(
            "SELECT sequence FROM pictures WHERE place = 0 AND media_type != ? "
            "AND sequence IN (SELECT value FROM json_each(?))",
            (TEXT, *_listed(sequences)),
        )
        return {sequence for (sequence,) in found}

    def texts(self, sequences: Iterable[int]) -> dict[int, str]:
        """The texts of those of these uniques that are texts."""
        found = self._rows(
            "SELECT sequence, encoded FROM pictures WHERE place = 0 AND media_type = ? "
            "AND sequence IN (SELECT value FROM json_each(?))",
            (TEXT, *_listed(sequences)),
        )
        return {sequence: encoded.decode() for sequence, encoded in found}

    def picture(self, sequence: int, place: int) -> Thumbnail | None:
        """The picture at a place; None if it is missing."""
        if max(sequence, place) >= 2**63:  # more than SQLite's integers hold
            return None
        found = self._rows(
            "SELECT media_type, encoded FROM pictures WHERE sequence = ? AND place = ?",
            (sequence, place),
        )
        return Thumbnail(*found[0]) if found else None

    @property
    def since_ms(self) -> int | None:
        """Time of the first `keep`, in milliseconds since 1970; None if nothing is kept."""
        found = self._rows("SELECT value FROM facts WHERE name = 'since'", ())
        return int(found[0][0]) if found else None

    def _rows(self, query: str, parameters: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                connection = self._opened_to_read()
                if connection is None or _stored_list_name(connection) != self._list_name:
                    return []
                return connection.execute(query, parameters).fetchall()
            except (OSError, sqlite3.Error):
                return []

    def _opened_to_read(self) -> sqlite3.Connection | None:
        """Never makes the file: before the first `keep` the folder may be another process's."""
        if self._connection is None and self._path.exists():
            self._connection = self._connect()
        return self._connection

    def close(self) -> None:
        """Close the file; nothing can be kept after it."""
        with self._lock:
            self._closed = True
            if self._connection is not None:
                self._connection.close()
                self._connection = None


def list_name(fingerprint: str, changelog_topic: str) -> str:
    """The name of a list of uniques: another model or changelog has another list."""
    return f"{fingerprint} {changelog_topic}"


def _listed(sequences: Iterable[int]) -> tuple[str]:
    """As one parameter for json_each: SQLite limits the number of parameters."""
    return (json.dumps(list(sequences)),)


def _stored_list_name(connection: sqlite3.Connection) -> str | None:
    found = connection.execute("SELECT value FROM facts WHERE name = 'list'").fetchone()
    return None if found is None else str(found[0])


def _insert(
    connection: sqlite3.Connection,
    pictures: Sequence[Picture],
    examples: Sequence[Example],
    counts: Mapping[int, int],
) -> None:
    with transaction(connection):
        connection.executemany(
            "INSERT OR REPLACE INTO pictures (sequence, place, media_type, encoded) VALUES (?, ?, ?, ?)",
            [(p.sequence, p.place, p.thumbnail.media_type, p.thumbnail.encoded) for p in pictures],
        )
        connection.executemany(
            "INSERT OR REPLACE INTO examples (sequence, place, record, similarity, label, label_name) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            [(e.sequence, e.place, e.record, e.similarity, e.label, e.label_name) for e in examples],
        )
        connection.executemany(
            "INSERT INTO absorbed VALUES (?, ?) ON CONFLICT (sequence) DO UPDATE SET count = count + excluded.count",
            list(counts.items()),
        )


def _delete_oldest(connection: sqlite3.Connection) -> None:
    """Make room: delete the oldest pictures and examples, keep the counts."""
    with transaction(connection):
        for table in ("pictures", "examples"):
            rows = connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]  # noqa: S608 (a fixed name)
            share = -(-rows // _SHARE_DELETED)
            connection.execute(
                f"DELETE FROM {table} WHERE id IN (SELECT id FROM {table} ORDER BY id LIMIT ?)",  # noqa: S608 (as above)
                (share,),
            )
