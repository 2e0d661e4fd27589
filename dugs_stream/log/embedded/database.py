"""Database of the embedded log: the schema of its SQLite file, in WAL mode, and how the file is opened.

A row of the table `lanes` is one partition of one topic. A record lies at `place`: the partition's number in that
table in the high bits, its offset in the low 40. So a partition is one contiguous range of one B-tree, and reading it
in order is a scan. Offsets are counters of the partition: pruning and deleting never give one out again.

WAL needs shared memory between the processes: the file must lie on a local disk, not on a network share.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from dugs_stream.errors import ConfigurationError, LogError, OutcomeUnknownError
from dugs_stream.log.embedded.errors import is_busy, is_disk_failure, translated

APPLICATION_ID = 0x44554753  # "DUGS", at byte 68 of the file, where file(1) finds it
SCHEMA_VERSION = 1

# 2⁴⁰ records a partition (at 10 000 a second: three years) and 2²³ partitions in the 63 bits of a rowid.
OFFSET_BITS = 40

# How long a writer or reader waits for the write lock: above any commit of the daemon (tens of milliseconds)
# and a disk's worst pause, below what a person at `dugs send` will wait.
BUSY_SECONDS = 10.0

# What the WAL may keep on disk after a burst; SQLite would otherwise leave it at its largest size for ever.
_WAL_KEPT_BYTES = 64 * 1024 * 1024

_SCHEMA = (
    "CREATE TABLE topics (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, id TEXT NOT NULL)",
    """CREATE TABLE lanes (
        number INTEGER PRIMARY KEY,
        topic INTEGER NOT NULL REFERENCES topics (number),
        partition INTEGER NOT NULL,
        beginning INTEGER NOT NULL DEFAULT 0,
        next_offset INTEGER NOT NULL DEFAULT 0,
        UNIQUE (topic, partition)
    )""",
    """CREATE TABLE records (
        place INTEGER PRIMARY KEY,
        key BLOB,
        value BLOB,
        headers BLOB,
        timestamp_ms INTEGER
    )""",
    """CREATE TABLE offsets (
        consumer_group TEXT NOT NULL,
        lane INTEGER NOT NULL REFERENCES lanes (number),
        next_offset INTEGER NOT NULL,
        PRIMARY KEY (consumer_group, lane)
    ) WITHOUT ROWID""",
    """CREATE TABLE decided (
        consumer_group TEXT NOT NULL,
        lane INTEGER NOT NULL REFERENCES lanes (number),
        decided_ms INTEGER NOT NULL,
        next_offset INTEGER NOT NULL,
        PRIMARY KEY (consumer_group, lane, decided_ms)
    ) WITHOUT ROWID""",
    "CREATE TABLE owners (consumer_group TEXT PRIMARY KEY, epoch INTEGER NOT NULL) WITHOUT ROWID",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)


def open_file(path: Path, *, create: bool) -> sqlite3.Connection:
    """A connection in autocommit mode, for the calling thread alone; the schema is there when it returns.

    With `create` a missing file is made (mode 0600), its folder too (0700); several processes may do so at once.
    Raises LogError for a file that is not a log's, LogUnavailableError if it stays locked.
    """
    with translated(path, "opening the log"):
        if create:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # An empty file is a new database; the files that SQLite puts beside it get its mode.
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        mode = "rwc" if create else "rw"
        uri = f"file:{quote(str(path.absolute()))}?mode={mode}"
        connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        with translated(path, "opening the log"):
            _recognise(connection, path)
            # The file remembers it; SQLite itself does not wait for other connections here.
            _retry_while_busy(connection, "PRAGMA journal_mode = WAL", BUSY_SECONDS)
            # FULL: a commit that returned survives the loss of power; NORMAL would lose the newest ones.
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA journal_size_limit = {_WAL_KEPT_BYTES}")
    except BaseException:
        connection.close()
        raise
    return connection


def _recognise(connection: sqlite3.Connection, path: Path) -> None:
    """Make the schema in an empty file; refuse a file of another program or version."""
    if _is_empty(connection):
        with write_transaction(connection):
            if _is_empty(connection):  # asked again under the lock: another process may have been first
                for statement in _SCHEMA:
                    connection.execute(statement)
    application_id = connection.execute("PRAGMA application_id").fetchone()[0]
    if application_id != APPLICATION_ID:
        raise LogError(
            f"{str(path)!r} is a database of another program (application id {application_id:#x}, a log has "
            f"{APPLICATION_ID:#x}). Nothing was changed in it; name another file as log.embedded.path."
        )
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != SCHEMA_VERSION:
        raise LogError(
            f"The log {str(path)!r} has schema version {version}, this program reads {SCHEMA_VERSION}. Use the "
            "release that wrote it, or name a new file as log.embedded.path (and a new state.dir)."
        )


def _is_empty(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("SELECT count(*) = 0 FROM sqlite_master").fetchone()[0])


class FileClient:
    """A thread's use of the file beside the daemon's: opened when it is first needed.

    if_missing  added to the error that says that there is no file; None: the file is made
    """

    def __init__(self, path: Path, *, if_missing: str | None) -> None:
        self._path = path
        self._if_missing = if_missing
        self._open: sqlite3.Connection | None = None

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._open is None:
            if self._if_missing is not None and not self._path.exists():
                raise ConfigurationError(
                    f"there is no embedded log at {str(self._path)!r}{self._if_missing}. Check log.embedded.path, "
                    "which is relative to the folder the command runs in."
                )
            self._open = open_file(self._path, create=self._if_missing is None)
        return self._open

    def close(self) -> None:
        """Close the file; an iterator still in use then raises LogError."""
        connection, self._open = self._open, None
        if connection is not None:
            with translated(self._path, "closing"):
                connection.close()


@contextmanager
def write_transaction(connection: sqlite3.Connection, doubt: str | None = None) -> Iterator[None]:
    """One write transaction around the block, which is undone if the block raises; for `doubt` see `commit`."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        commit(connection, doubt)
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def commit(connection: sqlite3.Connection, doubt: str | None) -> None:
    """COMMIT. Raises OutcomeUnknownError, if there is a `doubt` to tell, when the disk fails: it may be written."""
    try:
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        if doubt is None or not is_disk_failure(error):
            raise
        raise OutcomeUnknownError(f"The disk failed ({error}) during {doubt}") from error


def begin_write(
    connection: sqlite3.Connection, *, wait_seconds: float, stop: Callable[[], bool] | None = None
) -> bool:
    """BEGIN IMMEDIATE, asked every millisecond; False when `stop` said so.

    Writers back off for up to 100 ms between two tries, as SQLite does by itself. The daemon asks more often, so it
    finds the gaps between their commits first and is never starved by a busy sender.
    Raises sqlite3.OperationalError (busy) after `wait_seconds`.
    """
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        return _retry_while_busy(connection, "BEGIN IMMEDIATE", wait_seconds, stop)
    finally:
        connection.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")


def _retry_while_busy(
    connection: sqlite3.Connection,
    statement: str,
    wait_seconds: float,
    stop: Callable[[], bool] | None = None,
) -> bool:
    ends_at = time.monotonic() + wait_seconds
    while stop is None or not stop():
        try:
            connection.execute(statement)
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() >= ends_at:
                raise
            time.sleep(0.001)
        else:
            return True
    return False
