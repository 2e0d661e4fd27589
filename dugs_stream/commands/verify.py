"""`dugs index verify`: the state folder, and a running daemon's memory, compared with a replay of the changelog."""

from __future__ import annotations

import hashlib
import time
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from dugs_stream.app.logs import open_reader
from dugs_stream.changelog.checksum import NO_ROWS, chain
from dugs_stream.changelog.replay import Recovered
from dugs_stream.commands.index import replayed
from dugs_stream.commands.running_daemon import LiveDaemon, ask_daemon
from dugs_stream.config import Settings
from dugs_stream.errors import StateError
from dugs_stream.ops.http.access import authorization
from dugs_stream.records import ChangelogRow, SequenceNumber
from dugs_stream.state.lock import FolderLock, holder_of
from dugs_stream.state.snapshot import Snapshot, find_newest
from dugs_stream.state.store import StateStore
from dugs_stream.state.vectors import VectorFiles

# A broker answers a commit a few milliseconds before its marker is in the changelog, and only then do readers see the
# rows; seconds if it is busy. Anything longer is a changelog that ends before the daemon's position.
_MARKER_SECONDS = 5.0
_LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Verification:
    """How the state folder compares with the replay of the changelog.

    difference  the first one found; None if everything is equal
    live        how many uniques the daemon that holds the folder knows; None without a daemon
    """

    rows_on_disk: int
    rows_replayed: int
    difference: str | None
    live: int | None = None

    @property
    def is_equal(self) -> bool:
        """Whether every row on disk, and in a running daemon, is the changelog's, bit for bit."""
        return self.difference is None

    def __str__(self) -> str:
        """One line for people."""
        if self.difference is not None:
            return f"different: {self.difference}"
        behind = self.rows_replayed - self.rows_on_disk
        equal = f"equal: {self.rows_on_disk} rows on disk are the changelog's, bit for bit"
        if self.live is not None:
            return f"{equal}; so are the {self.live} uniques of the daemon that holds the folder"
        note = f"; {behind} later ones come from the changelog at the next start" if behind else ""
        return equal + note


def verify(settings: Settings) -> Verification:
    """Compare every row of the state folder with the changelog's, and the memory of a daemon that holds the folder.

    Raises StateError if the process that holds it does not answer.
    """
    folder = settings.state.dir
    if not folder.exists():
        return Verification(0, len(replayed(settings).events), None)
    try:
        with FolderLock(folder):
            damaged = find_newest(folder).damaged  # asked before `open`, which sets them aside
    except StateError as error:
        http = settings.http
        daemon = ask_daemon(http.host, http.port, holder_of(folder), authorization(http.auth))
        if daemon is None:
            raise StateError(f"{error}. It did not answer on http.port {http.port} either") from error
        return _verify_running(settings, daemon)
    if damaged:
        return _damaged([path.name for path in damaged])
    state = StateStore(folder, fingerprint=None, dimension=settings.gradient.dimension)
    loaded = state.open(verify=True)
    try:
        if loaded.missing:
            return _damaged(list(loaded.missing))
        truth = replayed(settings)
        return Verification(state.total, len(truth.events), _first_difference(state, truth))
    finally:
        state.close()


def _damaged(files: list[str]) -> Verification:
    difference = f"damaged on disk: {', '.join(files)}; the next start repairs it from the changelog"
    return Verification(0, 0, difference)


def _first_difference(state: StateStore, truth: Recovered) -> str | None:
    if state.total > len(truth.events):
        return f"{state.total} rows on disk, the changelog holds {len(truth.events)}"
    row = 0
    for vectors in state.files.vectors.blocks():
        for vector, event in zip(vectors, state.events(row, len(vectors)), strict=True):
            if not np.array_equal(vector, truth.vectors[row]):
                return f"the vector of row {row}"
            if event != truth.events[row]:
                return f"the event of row {row}"
            row += 1
    return None


def _verify_running(settings: Settings, daemon: LiveDaemon) -> Verification:
    """Compare what the daemon reports, and its newest snapshot; both only grow, so the changelog is read after them."""
    snapshot = find_newest(settings.state.dir).snapshot
    end = _changelog_end(settings, daemon.changelog_position)
    truth = replayed(settings)
    difference = _first_difference_in_memory(daemon, truth, end) or _first_difference_on_disk(
        settings, snapshot, truth
    )
    on_disk = 0 if snapshot is None else snapshot.rows
    return Verification(on_disk, len(truth.events), difference, daemon.uniques)


def _changelog_end(settings: Settings, expected: int) -> int:
    """The end of what is committed, with the markers of commits, which the daemon's position counts and a replay does not see.

    Waits a moment for the marker of a commit that the daemon knows of already.
    """
    gives_up_at = time.monotonic() + _MARKER_SECONDS
    with closing(open_reader(settings)) as reader:
        while True:
            _, ends = reader.bounds(settings.output.changelog_topic)
            end = max(ends.values(), default=0)
            if end >= expected or time.monotonic() >= gives_up_at:
                return end
            time.sleep(_LOOK_SECONDS)


def _first_difference_in_memory(daemon: LiveDaemon, truth: Recovered, end: int) -> str | None:
    if daemon.uniques > len(truth.events):
        return f"the daemon counts {daemon.uniques} uniques, the changelog holds {len(truth.events)}"
    if daemon.changelog_position > end:
        return f"the daemon is at changelog position {daemon.changelog_position}, the changelog ends at {end}"
    for row, event in enumerate(daemon.events()):
        if event != truth.events[row]:
            return f"the daemon's event of row {row}"
    checksum = _checksum(truth, daemon.uniques)
    if daemon.checksum != checksum:
        return f"the daemon's checksum over {daemon.uniques} rows is {daemon.checksum}, the changelog's {checksum}"
    return None


def _first_difference_on_disk(settings: Settings, snapshot: Snapshot | None, truth: Recovered) -> str | None:
    if snapshot is None:
        return None
    if snapshot.rows > len(truth.events):
        return f"{snapshot.rows} rows on disk, the changelog holds {len(truth.events)}"
    checksum = _checksum(truth, snapshot.rows)
    if snapshot.trailer.checksum != checksum:
        return f"the snapshot's checksum over {snapshot.rows} rows is {snapshot.trailer.checksum}, the changelog's {checksum}"
    damaged = VectorFiles(settings.state.dir, snapshot.dimension).open(snapshot.segments, verify=True)
    for segment in snapshot.segments:
        rows = np.ascontiguousarray(truth.vectors[segment.start : segment.stop], "<f4")
        if segment in damaged or hashlib.sha256(rows.tobytes()).hexdigest() != segment.sha256:
            return f"the vectors of rows {segment.start} to {segment.stop - 1} on disk ({segment.file})"
    return None


def _checksum(truth: Recovered, rows: int) -> str:
    checksum = NO_ROWS
    for row in range(rows):
        checksum = chain(checksum, ChangelogRow(SequenceNumber(row), truth.events[row], truth.vectors[row]))
    return checksum
