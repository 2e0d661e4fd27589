"""State store: what the daemon knows of its uniques, in memory and on disk.

Record ids are in memory, and events until a snapshot has written them; all else is in the state folder. One thread
calls `apply` after each commit and `snapshot` now and then; `total` and `events` are safe in any other. The vectors
to search in belong to the index.

    open → (refill) → index.take_mapped(each of files.vectors.mapped()) → replay(head, …): index.add, apply → …
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from time import perf_counter
from typing import Any

from dugs_stream.changelog.replay import BEGINNING, ChangelogHead
from dugs_stream.core.index.unique_index import UniqueIndex
from dugs_stream.errors import StateError
from dugs_stream.records import ChangelogPosition, ChangelogRow, Trailer
from dugs_stream.state.events import Entry, entry_of
from dugs_stream.state.files import LoadedState, StateFiles


@dataclass(frozen=True, slots=True)
class SnapshotResult:
    """What a snapshot wrote and how long that took."""

    rows: int
    new_rows: int
    seconds: float


class StateStore:
    """The state of one daemon: in memory what each decision needs, on disk what a restart needs.

    files    the state folder
    trailer  the last trailer that was applied, or the snapshot's

    Without a fingerprint it opens the folder of any model, for commands that only read.
    """

    def __init__(self, path: str | Path, *, fingerprint: str | None, dimension: int) -> None:
        self.files = StateFiles(Path(path), fingerprint=fingerprint, dimension=dimension)
        self._lock = Lock()
        self._clear()

    def _clear(self) -> None:
        self._ids: list[str] = []
        self._unwritten: list[Entry] = []  # of the last rows, those that no snapshot holds
        self._position = BEGINNING.position
        self.trailer: Trailer | None = None

    @property
    def total(self) -> int:
        """The number of uniques."""
        return len(self._ids)

    @property
    def stands_at_trailer(self) -> bool:
        """Whether the last trailer counts every row that was applied."""
        return self.total == (BEGINNING.uniques if self.trailer is None else self.trailer.uniques)

    @property
    def head(self) -> ChangelogHead:
        """Where a replay of the changelog goes on. Raises StateError if rows have come without their trailer."""
        head = BEGINNING if self.trailer is None else ChangelogHead.after(self.trailer, self._position)
        if not self.stands_at_trailer:
            raise StateError(
                f"{self.total} rows were applied and the last trailer counts {head.uniques}: a replay broke off; "
                "close the state and open it again"
            )
        return head

    def open(self, *, verify: bool = False) -> LoadedState:
        """Lock the folder and load its newest valid snapshot; what that does not cover is cut off.

        Vectors are not read: their checksums are verified where they are first used, and DamagedRowsError is raised there.
        With `verify` all of them are verified now. If something is `missing`, call `refill` or `forget` before anything else. Raises StateError if another process has the folder, or another model or
        dimension built it.
        """
        with self._lock:
            self._clear()
        loaded = self.files.open(verify=verify)
        if not loaded.missing:
            self._load_snapshot(loaded.ids)
        return loaded

    def _load_snapshot(self, ids: Iterable[str]) -> None:
        snapshot = self.files.snapshot
        with self._lock:
            self._clear()
            if snapshot is not None:
                self._ids = list(ids)
                self.trailer, self._position = snapshot.trailer, snapshot.changelog_position

    def refill(self, rows: Iterable[ChangelogRow]) -> None:
        """Restore what `open` found missing from changelog rows in order; other rows are passed over.

        Takes rows only until everything is whole. Raises StateError if they do not restore exactly what was lost;
        then only `forget` and a replay from the beginning help.
        """
        self._load_snapshot(self.files.refill(rows))

    def forget(self) -> None:
        """Empty memory and folder; the changelog rebuilds both."""
        with self._lock:
            self._clear()
            self.files.forget()

    def id_of(self, sequence: int) -> str:
        """The record id of a unique."""
        return self._ids[sequence]

    def events(self, offset: int, limit: int) -> list[dict[str, Any]]:
        """Up to `limit` events from sequence number `offset` on. Any thread."""
        start = max(0, offset)
        stop = start + max(0, limit)
        with self._lock:
            written = len(self._ids) - len(self._unwritten)
            unwritten = self._unwritten[max(0, start - written) : max(0, stop - written)]
            stored = self.files.events.read(start, min(stop, written)) if start < written else []
        return [json.loads(event) for event in [*stored, *(event for _, event in unwritten)]]

    def apply(
        self, rows: Sequence[ChangelogRow], trailer: Trailer | None, position: ChangelogPosition
    ) -> None:
        """Add what was committed, or replayed up to `position`: rows in order, and the trailer after them.

        Without a trailer, more rows must follow before a snapshot. Raises StateError, and adds nothing, if the rows
        do not continue those before or the trailer does not count them.
        """
        expected = range(self.total, self.total + len(rows))
        if [row.sequence for row in rows] != list(expected) or (trailer and trailer.uniques != expected.stop):
            raise StateError(
                f"rows {[row.sequence for row in rows][:3]}… with a trailer of "
                f"{trailer.uniques if trailer else 'no'} uniques do not follow the {self.total} known ones; "
                "the process's memory and the changelog disagree: start it again, recovery replays the changelog"
            )
        entries = [entry_of(row) for row in rows]
        with self._lock:
            self._ids += [name for name, _ in entries]
            self._unwritten += entries
            self._position = position
            self.trailer = trailer or self.trailer

    def snapshot(self, index: UniqueIndex, *, with_graph: bool = False) -> SnapshotResult | None:
        """Write what was applied since the last one; None if there is nothing new.

        Costs the new rows, `with_graph` the whole graph besides. Raises StateError if the disk refuses, or if rows
        have come without their trailer; that damages nothing, and the next call tries again.
        """
        started = perf_counter()
        uniques = self.head.uniques
        if len(index) != uniques:
            raise StateError(
                f"the index holds {len(index)} rows and the state {uniques}; apply a commit to both before a snapshot"
            )
        last = self.files.snapshot
        if self.trailer is None:
            return None
        if last is not None and last.changelog_position == self._position and not with_graph:
            return None
        new_rows = len(self._unwritten)
        self.files.write(index, self._unwritten, self.trailer, self._position)
        with self._lock:
            self._unwritten = []
        if with_graph:
            self.files.write_graph(index)
        return SnapshotResult(uniques, new_rows, perf_counter() - started)

    def close(self) -> None:
        """Close the files and unlock the folder; writes nothing."""
        self.files.close()
