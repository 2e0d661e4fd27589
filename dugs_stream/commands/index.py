"""What does the index hold, and is it what the changelog says? Looks from outside; `reset` alone changes anything.

The changelog is the measure: of the state folder, and of the memory of a daemon that holds the folder.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dugs_stream.app.logs import open_log, open_reader
from dugs_stream.app.web import page_folder
from dugs_stream.changelog.checksum import NO_ROWS, chain
from dugs_stream.changelog.replay import BEGINNING, Recovered, rebuild
from dugs_stream.changelog.wire import decode_changelog
from dugs_stream.commands.running_daemon import LiveDaemon, ask_daemon
from dugs_stream.config import Settings
from dugs_stream.errors import StateError
from dugs_stream.log.port import Log
from dugs_stream.ops.http.access import authorization
from dugs_stream.records import ChangelogPosition, ChangelogRow, SequenceNumber, Trailer
from dugs_stream.state.lock import FolderLock, holder_of
from dugs_stream.state.snapshot import Snapshot, find_newest
from dugs_stream.state.store import StateStore
from dugs_stream.state.vectors import VectorFiles


@dataclass(frozen=True, slots=True)
class Verification:
    """How the state folder compares with the replay of the changelog; difference is the first one found.

    live  how many uniques the daemon that holds the folder knows, where one does
    """

    rows_on_disk: int
    rows_replayed: int
    difference: str | None
    live: int | None = None

    @property
    def is_equal(self) -> bool:
        """Whether every row on disk, and in a living daemon, is the changelog's, bit for bit."""
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


def info(settings: Settings) -> dict[str, Any]:
    """What the newest valid snapshot says, without disturbing a daemon that runs."""
    folder = settings.state.dir
    found = find_newest(folder)
    facts: dict[str, Any] = {
        "folder": str(folder),
        "bytes": sum(path.stat().st_size for path in folder.glob("*") if path.is_file()),
        "damaged": [path.name for path in found.damaged],
        "snapshot": None,
    }
    if found.snapshot is not None:
        trailer = found.snapshot.trailer
        facts["snapshot"] = {
            "uniques": found.snapshot.rows,
            "dimension": found.snapshot.dimension,
            "fingerprint": found.snapshot.fingerprint,
            "changelog_position": found.snapshot.changelog_position,
            "threshold": trailer.threshold,
            "input_topic": trailer.input_topic,
            "group": trailer.group,
            "next_offsets": {str(partition): offset for partition, offset in trailer.next_offsets.items()},
            "checksum": trailer.checksum,
        }
    return facts


def replayed(settings: Settings) -> Recovered:
    """Everything the changelog holds, read from its beginning. Raises ChangelogError where it is not whole."""
    reader = open_reader(settings)
    try:
        return rebuild(BEGINNING, _entries(settings, reader.read))
    finally:
        reader.close()


def _entries(settings: Settings, read: Any) -> Iterator[tuple[ChangelogPosition, ChangelogRow | Trailer]]:
    for record in read(settings.output.changelog_topic, follow=False, stop=lambda: False):
        yield ChangelogPosition(record.offset), decode_changelog(record)


def verify(settings: Settings) -> Verification:
    """Hold every row of the state folder against the changelog's, and a daemon's memory where one has the folder.

    Raises StateError where whoever has it cannot be asked.
    """
    folder = settings.state.dir
    if not folder.exists():
        return Verification(0, len(replayed(settings).events), None)
    try:
        with FolderLock(folder):
            damaged = find_newest(folder).damaged  # asked before `open`, which sets them aside
    except StateError as error:
        daemon = ask_daemon(
            settings.http.host,
            settings.http.port,
            holder_of(folder),
            authorization(settings.http.auth),
        )
        if daemon is None:
            raise StateError(
                f"{error}. It did not answer on http.port {settings.http.port} either"
            ) from error
        return _verify_living(settings, daemon)
    if damaged:
        return _damaged([path.name for path in damaged])
    state = StateStore(folder, fingerprint=None, dimension=settings.gradient.dimension)
    loaded = state.open()
    try:
        if loaded.missing:
            return _damaged([missing.file for missing in loaded.missing])
        return _compare(state, replayed(settings))
    finally:
        state.close()


def _damaged(files: list[str]) -> Verification:
    difference = f"damaged on disk: {', '.join(files)}; the next start mends it from the changelog"
    return Verification(0, 0, difference)


def _compare(state: StateStore, truth: Recovered) -> Verification:
    on_disk, in_changelog = state.total, len(truth.events)
    if on_disk > in_changelog:
        return Verification(
            on_disk, in_changelog, f"{on_disk} rows on disk, the changelog holds {in_changelog}"
        )
    row = 0
    for vectors in state.vector_blocks():
        events = state.events(row, len(vectors))
        for vector, event in zip(vectors, events, strict=True):
            if not np.array_equal(vector, truth.vectors[row]):
                return Verification(on_disk, in_changelog, f"the vector of row {row}")
            if event != truth.events[row]:
                return Verification(on_disk, in_changelog, f"the event of row {row}")
            row += 1
    return Verification(on_disk, in_changelog, None)


def _verify_living(settings: Settings, daemon: LiveDaemon) -> Verification:
    """What it says, and its newest snapshot, which only grows while it lives; both asked before the changelog."""
    snapshot = find_newest(settings.state.dir).snapshot
    truth = replayed(settings)
    difference = _first_difference_of(daemon, truth) or _first_difference_on_disk(settings, snapshot, truth)
    on_disk = 0 if snapshot is None else snapshot.rows
    return Verification(on_disk, len(truth.events), difference, daemon.uniques)


def _first_difference_of(daemon: LiveDaemon, truth: Recovered) -> str | None:
    if daemon.uniques > len(truth.events):
        return f"the daemon counts {daemon.uniques} uniques, the changelog holds {len(truth.events)}"
    if daemon.changelog_position > truth.position:
        return f"the daemon stands at changelog position {daemon.changelog_position}, the changelog ends at {truth.position}"
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
    damaged = VectorFiles(settings.state.dir, snapshot.dimension).open(snapshot.segments)
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


def export(settings: Settings, output: Path) -> int:
    """Write vectors.npy (uniques, k) float32 and uniques.jsonl from the changelog; returns how many."""
    truth = replayed(settings)
    output.mkdir(parents=True, exist_ok=True)
    vectors = truth.vectors if len(truth.events) else np.empty((0, settings.gradient.dimension), np.float32)
    np.save(output / "vectors.npy", vectors, allow_pickle=False)
    with (output / "uniques.jsonl").open("w", encoding="utf-8") as file:
        for event in truth.events:
            file.write(json.dumps(event, ensure_ascii=False) + "\n")
    return len(truth.events)


# -- the ways out ------------------------------------------------------------------------------------------


def what_reset_does(settings: Settings) -> str:
    """In words, before anybody is asked."""
    facts = info(settings)
    snapshot = facts["snapshot"]
    held = "no snapshot" if snapshot is None else f"a snapshot of {snapshot['uniques']} uniques"
    return (
        f"{facts['folder']} holds {held} ({facts['bytes']} bytes). Everything in it is deleted. No unique is lost: "
        f"the changelog {settings.output.changelog_topic!r} keeps them all, and the next start replays it from its "
        "beginning."
    )


def reset(settings: Settings) -> None:
    """Empty the state folder. Raises StateError while a daemon has it."""
    state = StateStore(settings.state.dir, fingerprint=None, dimension=settings.gradient.dimension)
    state.open()
    try:
        state.forget()
        shutil.rmtree(page_folder(settings), ignore_errors=True)
    except OSError as error:
        raise StateError(f"the state folder {settings.state.dir} cannot be emptied ({error})") from error
    finally:
        state.close()


@dataclass(frozen=True, slots=True)
class Adoption:
    """A partition whose group offset is not the changelog's: decided up to `decided`, to go on at `committed`."""

    place: str
    decided: int
    committed: int

    def __str__(self) -> str:
        """One line: both numbers, and what accepting the group's means."""
        records = abs(self.committed - self.decided)
        what = (
            f"the {records} between are skipped for good, without a verdict"
            if self.committed > self.decided
            else f"{records} are decided again, and each gets a second verdict"
        )
        return f"{self.place}: decided up to {self.decided}, the group stands at {self.committed}: {what}"


def adoptions(settings: Settings) -> tuple[Adoption, ...]:
    """What `dugs index adopt-offsets` would change; nothing where changelog and group agree. Changes nothing itself."""
    log = open_log(settings)
    try:
        log.prepare()
        trailer = _last_trailer(settings, log)
        committed = log.committed_offsets()
    finally:
        log.close()
    decided = {} if trailer is None else trailer.next_offsets
    return tuple(
        Adoption(f"{settings.input.topic}/{partition}", decided[partition], committed[partition])
        for partition in sorted(decided.keys() & committed.keys())
        if decided[partition] != committed[partition]
    )


def _last_trailer(settings: Settings, log: Log) -> Trailer | None:
    """The changelog's last; a snapshot, where there is one, saves reading what it covers."""
    snapshot = find_newest(settings.state.dir).snapshot
    start, end = log.changelog_bounds()
    trailer = None if snapshot is None else snapshot.trailer
    known = start if snapshot is None else max(start, snapshot.changelog_position)
    for _position, message in log.read_changelog(known, end):
        entry = decode_changelog(message)
        trailer = entry if isinstance(entry, Trailer) else trailer
    return trailer
