"""Reader of a state folder's newest snapshot, beside a daemon that may hold the folder.

It takes no lock and writes nothing: the files of a snapshot only grow, so what one snapshot covers stays readable while
the daemon writes the next. Vectors are mapped and verified block by block where they are used.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from dugs_stream.core.index.rows import Rows
from dugs_stream.errors import StateError
from dugs_stream.state.events import EventTable, framed
from dugs_stream.state.snapshot import Snapshot, find_newest
from dugs_stream.state.vectors import VectorFiles

# Events read at once: 4 096 are about 2 MB.
_EVENTS_AT_ONCE = 4_096
# A snapshot of the daemon holds the table for milliseconds.
_BUSY_SECONDS = 5.0
_RESTORE = "let the next start of the daemon repair it from the changelog, or read the changelog itself"


class SnapshotReader:
    """The uniques of the newest valid snapshot: vectors as `rows`, events as JSON texts.

    Raises StateError if the folder has no valid snapshot, or files that it names are missing.
    """

    def __init__(self, folder: Path) -> None:
        self._table = folder / EventTable.file
        self.snapshot = _newest(folder)
        self.rows = Rows(self.snapshot.dimension)
        files = VectorFiles(folder, self.snapshot.dimension)
        missing = files.open(self.snapshot.segments)
        if missing:
            raise StateError(f"{folder / missing[0].file} is missing or cut short; {_RESTORE}")
        for mapped in files.mapped():
            self.rows.map(mapped)

    def events(self) -> Iterator[str]:
        """All events as JSON, in sequence order. Raises StateError behind the last if they are not the snapshot's."""
        digest, found = hashlib.sha256(), 0
        try:
            with closing(self._connected()) as connection:
                cursor = connection.execute(
                    "SELECT id, event FROM events WHERE sequence < ? ORDER BY sequence", (self.snapshot.rows,)
                )
                while entries := cursor.fetchmany(_EVENTS_AT_ONCE):
                    digest.update(framed(entries))
                    found += len(entries)
                    yield from (event for _, event in entries)
        except (
            sqlite3.Error,
            TypeError,
            AttributeError,
        ) as error:  # a changed byte may turn a text into a number
            raise StateError(f"{self._table} cannot be read ({error}); {_RESTORE}") from error
        if (found, digest.hexdigest()) != (self.snapshot.rows, self.snapshot.events_checksum):
            raise StateError(
                f"{self._table} is damaged: its {found} events are not the {self.snapshot.rows} that were written; {_RESTORE}"
            )

    def events_of(self, sequences: Sequence[int]) -> dict[int, str]:
        """The events of some uniques as JSON, by sequence number. Raises StateError if the table cannot be read."""
        try:
            with closing(self._connected()) as connection:
                return {
                    sequence: connection.execute(
                        "SELECT event FROM events WHERE sequence = ?", (int(sequence),)
                    ).fetchone()[0]
                    for sequence in sequences
                }
        except (sqlite3.Error, TypeError) as error:
            raise StateError(f"{self._table} cannot be read ({error}); {_RESTORE}") from error

    def _connected(self) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{quote(str(self._table))}?mode=ro", uri=True, timeout=_BUSY_SECONDS)


def _newest(folder: Path) -> Snapshot:
    found = find_newest(folder)
    if found.snapshot is not None:
        return found.snapshot
    if found.damaged:
        names = ", ".join(path.name for path in found.damaged)
        raise StateError(f"no snapshot in {folder} is whole ({names} damaged); {_RESTORE}")
    raise StateError(
        f"{folder} holds no snapshot: no daemon has saved its uniques there yet. Check state.dir; a daemon saves them "
        "half a minute after the first, and when it stops"
    )
