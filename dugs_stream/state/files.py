"""Files of the state folder: opening, repairing and writing them as snapshots.

A snapshot is written in three steps, each durable before the next: new vectors behind the old, new events behind
the old, then one small manifest that makes both valid. A kill between two steps leaves the previous manifest, which
covers neither. Opening cuts off everything that no manifest covers.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dugs_stream.core.index.files import PrefixFiles, StoredPrefix
from dugs_stream.core.index.unique_index import UniqueIndex
from dugs_stream.errors import OTHER_MODEL, StateError
from dugs_stream.records import ChangelogPosition, ChangelogRow, Trailer
from dugs_stream.state import snapshot as snapshots
from dugs_stream.state.events import Entry, EventTable
from dugs_stream.state.lock import FolderLock
from dugs_stream.state.snapshot import DAMAGED_SUFFIX, Snapshot
from dugs_stream.state.vectors import Segment, VectorFiles

# Rows fetched from the index at once when they are written: 4 096 of k = 2048 are 32 MiB.
_ROWS_AT_ONCE = 4_096


@dataclass(frozen=True, slots=True)
class LoadedState:
    """What opening the folder found: a snapshot or none, files set aside as damaged, rows to refill first.

    missing  damaged file → the changelog position from which on all its rows are found
    ids      the record ids of the snapshot's rows, in order; empty if the events are missing
    """

    snapshot: Snapshot | None
    set_aside: tuple[Path, ...] = ()
    missing: Mapping[str, ChangelogPosition] = field(default_factory=dict)
    ids: list[str] = field(default_factory=list, repr=False)

    @property
    def rows(self) -> int:
        """The number of uniques in the snapshot."""
        return 0 if self.snapshot is None else self.snapshot.rows


class StateFiles:
    """The files of one state folder. One thread, but `events.read` is safe in any.

    snapshot  the newest one on disk
    """

    def __init__(self, path: Path, *, fingerprint: str | None, dimension: int) -> None:
        self.path = path
        self.vectors = VectorFiles(path, dimension)
        self.events = EventTable(path)
        self.snapshot: Snapshot | None = None
        self._prefix = PrefixFiles(path)
        self._lock = FolderLock(path)
        self._fingerprint = fingerprint
        self._dimension = dimension
        self._number = 0
        self._damaged: tuple[Segment, ...] = ()
        self._lost_events = False

    # Opening

    def open(self, *, verify: bool = False) -> LoadedState:
        """Lock the folder, load its newest valid snapshot, cut off what that does not cover; see `StateStore.open`."""
        self._lock.lock()
        try:
            found = snapshots.find_newest(self.path)
            if found.snapshot is not None:
                self._require_same_model(found.snapshot.trailer.fingerprint, found.snapshot.dimension)
            set_aside = tuple(
                path.replace(path.with_name(path.name + DAMAGED_SUFFIX)) for path in found.damaged
            )
            for draft in self.path.glob("*.part"):
                draft.unlink()
            self._number, self.snapshot = found.number, found.snapshot
            if found.snapshot is None:
                self._start_over()
                return LoadedState(None, set_aside)
            return self._open_files(found.snapshot, set_aside, verify=verify)
        except (OSError, sqlite3.Error) as error:
            self.close()
            raise StateError(
                f"the state folder {self.path} cannot be opened ({error}); expected files that this user may read and "
                "write and some room on the disk: correct that, or set another state.dir"
            ) from error
        except BaseException:
            self.close()
            raise

    def _require_same_model(self, fingerprint: str, dimension: int) -> None:
        expected = (self._fingerprint or fingerprint, self._dimension)
        if (fingerprint, dimension) != expected:
            raise StateError(
                f"the state folder {self.path} was built by the model {fingerprint} with "
                f"{dimension} dimensions; the configuration names {expected[0]} with {expected[1]}. "
                + OTHER_MODEL
            )

    def _open_files(self, snapshot: Snapshot, set_aside: tuple[Path, ...], *, verify: bool) -> LoadedState:
        self._damaged = self.vectors.open(snapshot.segments, verify=verify)
        ids = self.events.open(snapshot.rows, snapshot.events_checksum)
        self.vectors.cut()
        missing = {segment.file: segment.changelog_start for segment in self._damaged}
        self._lost_events = ids is None
        if self._lost_events:
            self.events.start_over(DAMAGED_SUFFIX)
            if snapshot.segments:
                missing[self.events.file] = snapshot.segments[0].changelog_start
        return LoadedState(snapshot, set_aside, missing, ids or [])

    def load_prefix(self, *, verify: bool = False) -> StoredPrefix | None:
        """The prefix that the snapshot keeps of its rows; None if there is none or it is damaged: then it is computed again."""
        if self.snapshot is None or self.snapshot.prefix is None:
            return None
        return self._prefix.load(self.snapshot.prefix, self._dimension, verify=verify)

    def _start_over(self) -> None:
        self.vectors.open(())
        self.vectors.cut()
        self._prefix.forget()
        self._prefix.remove_others(None)
        self.events.start_over()

    def refill(self, rows: Iterable[ChangelogRow]) -> list[str]:
        """Restore what `open` found missing; see `StateStore.refill`. The ids of all rows."""
        snapshot = self.snapshot
        if snapshot is None:
            return []
        left = iter(rows)
        if self._lost_events:
            left = self.events.refilled_from(left, snapshot.rows, snapshot.events_checksum)
        for segment in self._damaged:
            self.vectors.refill(segment, left)
        if self._lost_events:
            deque(left, maxlen=0)
        self._damaged, self._lost_events = self.vectors.open(snapshot.segments), False
        return self.events.open(snapshot.rows, snapshot.events_checksum) or []

    def forget(self) -> None:
        """Empty the folder, durably; the snapshots go first, so that a kill leaves none without its files."""
        snapshots.remove_all(self.path)
        self.snapshot, self._number, self._damaged, self._lost_events = None, 0, (), False
        self._start_over()
        for graph in self.path.glob("graph.*"):
            graph.unlink()

    # Writing

    def write(
        self, index: UniqueIndex, entries: Sequence[Entry], trailer: Trailer, position: ChangelogPosition
    ) -> None:
        """Make `trailer` the state on disk; `entries` belong to the rows that no snapshot holds yet.

        Raises StateError if the disk refuses; the previous snapshot stays valid, and trying again is safe.
        """
        before = ChangelogPosition(0) if self.snapshot is None else self.snapshot.changelog_position
        try:
            while self.vectors.rows < trailer.uniques:
                start = self.vectors.rows
                self.vectors.append(index.rows(start, min(start + _ROWS_AT_ONCE, trailer.uniques)), before)
            prefix = None if index.prefix is None else self._prefix.write(*index.prefix.stored)
            known = self.events.rows - (trailer.uniques - len(entries))
            self.events.append(entries[known:])
            written = Snapshot(
                self._dimension, position, trailer, self.vectors.segments, self.events.checksum, prefix
            )
            snapshots.write(self.path, self._number + 1, written)
            self._prefix.remove_others(prefix)
        except (OSError, sqlite3.Error) as error:
            raise self._refused(error) from error
        self._number, self.snapshot = self._number + 1, written

    def write_graph(self, index: UniqueIndex) -> None:
        """Write the whole graph of the index too. Raises StateError if the disk refuses."""
        try:
            index.save_graph(self.path)
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: Exception) -> StateError:
        return StateError(
            f"no snapshot could be written into {self.path} ({error}); nothing is lost, since the changelog "
            "holds everything, but a restart reads more of it. Make room or correct the folder's mode: the "
            "next snapshot tries again"
        )

    def close(self) -> None:
        """Close the files and unlock the folder."""
        self.events.close()
        self._lock.close()
