"""What does the daemon know of its uniques now, and how does it survive the process?

`StateStore` holds the record ids in memory and everything else in the state folder; events that no snapshot has
written yet stay in memory too. `apply` tells it of each commit and `snapshot` writes it, both from one thread;
`total` and `events` may be asked from any other. The vectors to search in are the index's business.

    open → (refill) → index.add(each of vector_blocks) → replay(head, …): index.add, apply → …
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

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

    Without a fingerprint it takes the folder of whatever model it finds, for commands that only look.
    """

    def __init__(self, path: str | Path, *, fingerprint: str | None, dimension: int) -> None:
        self._disk = StateFiles(Path(path), fingerprint=fingerprint, dimension=dimension)
        self._lock = Lock()
        self._hold_nothing()

    def _hold_nothing(self) -> None:
        self._ids: list[str] = []
        self._waiting: list[Entry] = []  # of the last rows, those that no snapshot holds
        self._trailer: Trailer | None = None
        self._position = BEGINNING.position

    @property
    def path(self) -> Path:
        """The state folder."""
        return self._disk.path

    @property
    def trailer(self) -> Trailer | None:
        """The last trailer applied, or the snapshot's."""
        return self._trailer

    @property
    def total(self) -> int:
        """How many uniques there are."""
        return len(self._ids)

    @property
    def stands_at_trailer(self) -> bool:
        """Whether every row that was applied is counted by the last trailer."""
        return self.total == (BEGINNING.uniques if self._trailer is None else self._trailer.uniques)

    @property
    def head(self) -> ChangelogHead:
        """Where a replay of the changelog goes on. StateError where rows still wait for their trailer."""
        uniques = BEGINNING.uniques if self._trailer is None else self._trailer.uniques
        if not self.stands_at_trailer:
            raise StateError(
                f"{self.total} rows were applied and the last trailer counts {uniques}: a replay broke off; "
                "close the state and open it again"
            )
        if self._trailer is None:
            return BEGINNING
        return ChangelogHead.after(self._trailer, self._position)

    def open(self) -> LoadedState:
        """Lock the folder and take up its newest valid snapshot; what that does not cover is cut off.

        Costs one reading of all rows, since every checksum is verified. Where something is `missing`, call
        `refill` or `forget` before anything else. Raises StateError where another process has the folder, or
        another model or dimension built it.
        """
        with self._lock:
            self._hold_nothing()
        loaded = self._disk.open()
        if not loaded.missing:
            self._hold_snapshot(loaded.ids)
        return loaded

    def _hold_snapshot(self, ids: Iterable[str]) -> None:
        snapshot = self._disk.snapshot
        with self._lock:
            self._hold_nothing()
            if snapshot is not None:
                self._ids = list(ids)
                self._trailer, self._position = snapshot.trailer, snapshot.changelog_position

    def refill(self, rows: Iterable[ChangelogRow]) -> None:
        """Restore what `open` found missing from changelog rows in order; others among them are passed over.

        Takes rows only until everything is whole. Raises StateError where they do not restore exactly what
        was lost; then only `forget` and a replay from the beginning help.
        """
        self._disk.refill(rows)
        self._hold_snapshot(self._disk.ids())

    def forget(self) -> None:
        """Empty memory and folder; the changelog rebuilds both."""
        with self._lock:
            self._hold_nothing()
            self._disk.forget()

    def vector_blocks(self) -> Iterator[NDArray[np.float32]]:
        """The snapshot's vectors in sequence order, as read-only memory maps (≤ 65 536, k) float32."""
        return self._disk.vector_blocks()

    def id_of(self, sequence: int) -> str:
        """The record id of a unique."""
        return self._ids[sequence]

    def events(self, offset: int, limit: int) -> list[dict[str, Any]]:
        """Up to `limit` events from sequence number `offset` on. Any thread."""
        start = max(0, offset)
        stop = start + max(0, limit)
        with self._lock:
            written = len(self._ids) - len(self._waiting)
            waiting = self._waiting[max(0, start - written) : max(0, stop - written)]
            stored = self._disk.read_events(start, min(stop, written)) if start < written else []
        return [json.loads(event) for event in [*stored, *(event for _, event in waiting)]]

    def apply(
        self, rows: Sequence[ChangelogRow], trailer: Trailer | None, position: ChangelogPosition
    ) -> None:
        """Take in what was committed, or replayed up to `position`: rows in order, and the trailer after them.

        Without a trailer more rows must follow before anything is asked of the folder. StateError where the
        rows do not continue those before, or the trailer does not count them; nothing is taken in then.
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
            self._waiting += entries
            self._position = position
            self._trailer = trailer or self._trailer

    def snapshot(self, index: UniqueIndex, *, with_graph: bool = False) -> SnapshotResult | None:
        """Write what was applied since the last one; None where there is nothing new.

        Costs the new rows; `with_graph` the whole graph besides. Raises StateError where the disk refuses, or
        rows wait for their trailer; nothing is damaged by that, and the next call tries again.
        """
        started = perf_counter()
        uniques = self.head.uniques
        if len(index) != uniques:
            raise StateError(
                f"the index holds {len(index)} rows and the state {uniques}; apply a commit to both before a snapshot"
            )
        last = self._disk.snapshot
        if self._trailer is None:
            return None
        if last is not None and last.changelog_position == self._position and not with_graph:
            return None
        new_rows = len(self._waiting)
        self._disk.write(index, self._waiting, self._trailer, self._position)
        with self._lock:
            self._waiting = []
        if with_graph:
            self._disk.write_graph(index)
        return SnapshotResult(uniques, new_rows, perf_counter() - started)

    def close(self) -> None:
        """Let go of the folder; writes nothing."""
        self._disk.close()
