"""Event table: record id and event of each unique, by sequence number, in SQLite.

It may hold more rows than a snapshot covers; they are cut off when it is opened. Safe to read from another thread.
"""

from __future__ import annotations

import hashlib
import sqlite3
import struct
from collections.abc import Iterable, Iterator, Sequence
from json.encoder import encode_basestring_ascii
from pathlib import Path
from threading import Lock

from dugs_stream.canonical_json import canonical_json
from dugs_stream.errors import StateError
from dugs_stream.records import ChangelogRow
from dugs_stream.sqlite import is_damage, transaction

Entry = tuple[str, str]
"""A record's id, and its event as JSON."""

_FILE = "metadata.db"
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS events (sequence INTEGER PRIMARY KEY, id TEXT NOT NULL, event TEXT NOT NULL)"
)

# Only readers hold the file, for milliseconds: a thread of our own, or `dugs index info` beside the daemon.
_BUSY_SECONDS = 5.0

# Rows read at once, and written at once when a lost table is refilled: 4 096 events are about 2 MB.
_ENTRIES_AT_ONCE = 4_096

_LENGTHS = struct.Struct("<QQ")


class EventTable:
    """Ids and events of uniques 0 … rows − 1."""

    file = _FILE

    def __init__(self, folder: Path) -> None:
        self._path = folder / self.file
        self._lock = Lock()
        self._connection: sqlite3.Connection | None = None
        self._digest = hashlib.sha256()
        self.rows = 0

    @property
    def checksum(self) -> str:
        """Hex SHA-256 over all ids and events, in order."""
        return self._digest.copy().hexdigest()

    def open(self, rows: int, checksum: str) -> list[str] | None:
        """Keep the first `rows` rows and cut off the rest: their ids, or None if `checksum` is not theirs.

        Raises StateError if the file cannot be used for another reason than damage.
        """
        self._reset()
        try:
            self._connect()
            with self._lock, transaction(self._opened()) as connection:
                connection.execute("DELETE FROM events WHERE sequence >= ?", (rows,))
            ids = self._read_and_digest()
        except sqlite3.Error as error:
            if is_damage(error):
                return None
            raise StateError(
                f"{self._path} cannot be used ({error}); expected a readable and writable SQLite file: correct "
                "its mode, make room on the disk, or end the program that holds it"
            ) from error
        except (TypeError, AttributeError):  # a changed byte turned a text into a number or NULL
            return None
        return ids if (self.rows, self.checksum) == (rows, checksum) else None

    def _read_and_digest(self) -> list[str]:
        """All ids, and the digest of exactly what was read."""
        ids: list[str] = []
        with self._lock:
            found = self._opened().execute("SELECT id, event FROM events ORDER BY sequence")
            while entries := found.fetchmany(_ENTRIES_AT_ONCE):
                self._digest.update(framed(entries))
                ids += [name for name, _ in entries]
        self.rows = len(ids)
        return ids

    def start_over(self, set_aside: str | None = None) -> None:
        """Begin with an empty table; remove the old files, or rename them with the suffix `set_aside`."""
        self._reset()
        for file in (self.file, f"{self.file}-wal", f"{self.file}-shm"):
            path = self._path.with_name(file)
            if set_aside is None:
                path.unlink(missing_ok=True)
            elif path.exists():
                path.replace(path.with_name(path.name + set_aside))
        self._connect()

    def _reset(self) -> None:
        self.close()
        self.rows, self._digest = 0, hashlib.sha256()

    def _connect(self) -> None:
        # Guarded by our own lock, so that the HTTP thread may read through the same connection.
        connection = sqlite3.connect(
            self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        self._connection = connection
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(_SCHEMA)

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StateError(f"{self._path} is closed; open the state before reading it")
        return self._connection

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries after the last; durable on return.

        Raises sqlite3.Error if the disk refuses; then nothing is added, and trying again is safe.
        """
        if not entries:
            return
        digest = self._digest.copy()
        digest.update(framed(entries))
        numbered = [(self.rows + place, *entry) for place, entry in enumerate(entries)]
        with self._lock, transaction(self._opened()) as connection:
            connection.executemany("INSERT INTO events VALUES (?, ?, ?)", numbered)
        self.rows, self._digest = self.rows + len(entries), digest

    def read(self, start: int, stop: int) -> list[str]:
        """The events start … stop − 1 as JSON."""
        with self._lock:
            found = self._opened().execute(
                "SELECT event FROM events WHERE sequence >= ? AND sequence < ? ORDER BY sequence",
                (start, stop),
            )
            return [event for (event,) in found]

    def refilled_from(
        self, changelog: Iterable[ChangelogRow], rows: int, checksum: str
    ) -> Iterator[ChangelogRow]:
        """Hand the changelog's rows on, and fill a table that was started over with the first `rows` of them.

        Ends with the last one. Raises StateError if they are not those of the snapshot.
        """
        waiting: list[Entry] = []
        for row in changelog:
            if row.sequence == self.rows + len(waiting):
                waiting.append(entry_of(row))
            yield row
            if self.rows + len(waiting) == rows or len(waiting) == _ENTRIES_AT_ONCE:
                self.append(waiting)
                waiting = []
            if self.rows == rows:
                break
        self.append(waiting)
        if (self.rows, self.checksum) != (rows, checksum):
            raise StateError(
                f"{_FILE} is damaged and the changelog's events do not restore it ({self.rows} of "
                f"{rows} found, or other content); forget the folder with `dugs index reset` and start "
                "again: it is rebuilt from the changelog"
            )

    def close(self) -> None:
        """Close the file; closing it twice is harmless."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None


def entry_of(row: ChangelogRow) -> Entry:
    """The entry of a changelog row."""
    return str(row.event["id"]), canonical_json(row.event).decode()


def framed(entries: Sequence[Entry]) -> bytes:
    """The entries in order, the two lengths before each: what the checksum is over."""
    parts: list[bytes] = []
    for name, event in entries:
        quoted, encoded = encode_basestring_ascii(name).encode("ascii"), event.encode()
        parts += (_LENGTHS.pack(len(quoted), len(encoded)), quoted, encoded)
    return b"".join(parts)
