"""Translation of SQLite's errors: no sqlite3.Error leaves the embedded engine.

A caller sees `errors.LogError` and its subclasses, with the file, what was being done and what to do next; the
foreign error stays attached as the cause.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dugs_stream.errors import LogError, LogUnavailableError

# Extended result codes carry the primary one in their low byte.
_PRIMARY = 0xFF

_PASSING = {
    sqlite3.SQLITE_BUSY: "another process holds its write lock; one that is stopped keeps the lock until it ends",
    sqlite3.SQLITE_LOCKED: "it is locked within this process",
    sqlite3.SQLITE_FULL: "the disk is full; free some space, what was committed is safe",
    sqlite3.SQLITE_IOERR: "the disk failed to read or write; look at the system's log",
    sqlite3.SQLITE_NOMEM: "memory ran out",
    sqlite3.SQLITE_PROTOCOL: "its locks did not answer in time",
}

_LASTING = {
    sqlite3.SQLITE_NOTADB: (
        "it is not an SQLite database; name another file as log.embedded.path, or move this one away"
    ),
    sqlite3.SQLITE_CORRUPT: (
        "it is damaged; restore it from a copy, or move it away to start a new log (and a new state.dir)"
    ),
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check that its folder exists and that this user may write there",
    sqlite3.SQLITE_READONLY: "it cannot be written; check the permissions of the file and its folder",
    sqlite3.SQLITE_PERM: "this user may not use it; check its permissions",
    sqlite3.SQLITE_TOOBIG: "a record is larger than SQLite's 1 GB; lower input.max_record_bytes at the sender",
}


def is_busy(error: sqlite3.Error) -> bool:
    """Whether the file was only locked by another connection."""
    return _primary_code(error) == sqlite3.SQLITE_BUSY


def is_disk_failure(error: sqlite3.Error) -> bool:
    """Whether reading, writing or syncing failed, so that only the next opening can tell the state of the file."""
    return _primary_code(error) == sqlite3.SQLITE_IOERR


@contextmanager
def translated(path: Path, doing: str, passing: type[LogError] = LogUnavailableError) -> Iterator[None]:
    """Turn every sqlite3.Error and OSError of the block into a LogError that says what to do.

    passing  the class for errors that may pass by themselves (locked, disk full, I/O): outside a transaction
             trying again is right, inside one the transaction is given up. Those that need a person are plain LogErrors.
    """
    try:
        yield
    except sqlite3.Error as error:
        code = _primary_code(error)
        if code in _PASSING:
            raise passing(f"{doing} {str(path)!r}: {_PASSING[code]} ({error}).") from error
        cure = _LASTING.get(code, "SQLite refused")
        raise LogError(f"{doing} {str(path)!r}: {cure} ({error}).") from error
    except OSError as error:
        raise LogError(
            f"{doing} {str(path)!r}: {error.strerror or error}; check log.embedded.path and the permissions of its folder."
        ) from error


def _primary_code(error: sqlite3.Error) -> int:
    """SQLite's result code; 0 for a refusal of the Python module itself, such as a use from another thread."""
    return int(getattr(error, "sqlite_errorcode", 0)) & _PRIMARY
