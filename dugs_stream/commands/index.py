"""`dugs index info`, `export`, `reset` and `adopt-offsets`: the state folder, and the changelog behind it.

Only `reset` changes anything; what `adopt-offsets` changes is in `app.daemon`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dugs_stream.app.logs import open_log, open_reader
from dugs_stream.changelog.replay import Recovered, rebuild
from dugs_stream.changelog.wire import decode_changelog
from dugs_stream.commands.running_daemon import ask_daemon
from dugs_stream.config import Settings
from dugs_stream.core.index.files import GRAPH_FILE, PrefixFiles
from dugs_stream.core.index.rows import Rows
from dugs_stream.errors import StateError
from dugs_stream.log.port import Log, LogReader
from dugs_stream.ops.gallery.thumbnail_store import PAGE_FOLDER
from dugs_stream.ops.http.access import authorization
from dugs_stream.records import ChangelogPosition, ChangelogRow, Trailer
from dugs_stream.state.lock import holder_of
from dugs_stream.state.snapshot import Snapshot, find_newest
from dugs_stream.state.store import StateStore


def info(settings: Settings) -> dict[str, Any]:
    """What the newest valid snapshot says, without disturbing a daemon that runs.

    `index` is the index on disk by part, and `live` what the index of the daemon that holds the folder reports: the ways it
    answers, what a query costs, the memory by part; null without a daemon that answers, and `no_live_because` says why.
    """
    folder = settings.state.dir
    found = find_newest(folder)
    live, reason = _live_index(settings)
    facts: dict[str, Any] = {
        "folder": str(folder),
        "bytes": sum(path.stat().st_size for path in folder.glob("*") if path.is_file()),
        "damaged": [path.name for path in found.damaged],
        "snapshot": None,
        "index": None,
        "live": live,
        "no_live_because": reason,
    }
    if found.snapshot is not None:
        trailer = found.snapshot.trailer
        facts["snapshot"] = {
            "uniques": found.snapshot.rows,
            "dimension": found.snapshot.dimension,
            "fingerprint": found.snapshot.trailer.fingerprint,
            "changelog_position": found.snapshot.changelog_position,
            "threshold": trailer.threshold,
            "input_topic": trailer.input_topic,
            "group": trailer.group,
            "next_offsets": {str(partition): offset for partition, offset in trailer.next_offsets.items()},
            "checksum": trailer.checksum,
        }
        facts["index"] = _index_on_disk(folder, found.snapshot)
    return facts


def _index_on_disk(folder: Path, snapshot: Snapshot) -> dict[str, Any]:
    """Bytes by part, and how much of the rows' squared length lies in the prefix."""
    stored = None
    if snapshot.prefix is not None:
        stored = PrefixFiles(folder).load(snapshot.prefix, snapshot.dimension, verify=True)
    graph = folder / GRAPH_FILE
    return {
        "bytes": {
            "rows": 4 * snapshot.rows * snapshot.dimension,
            "prefix": 0 if stored is None else 4 * len(stored.rows) * stored.rows.dimension,
            "graph": graph.stat().st_size if graph.exists() else 0,
        },
        "prefix_dimensions": 0 if stored is None else stored.rows.dimension - 1,
        "energy": None if stored is None else _energy(stored.rows),
    }


def _energy(prefix: Rows) -> float:
    """Share of the latest rows' squared length in the prefix, whose last number is the length of the rest."""
    latest = prefix.take(np.arange(max(0, len(prefix) - 4_096), len(prefix), dtype=np.int64))
    return round(1.0 - float(np.mean(latest[:, -1].astype(np.float64) ** 2)), 4)


def _live_index(settings: Settings) -> tuple[dict[str, Any] | None, str | None]:
    """What the daemon's index reports; else why nothing can be told."""
    holder = holder_of(settings.state.dir)
    if holder is None:
        return None, "no process holds the folder"
    try:
        daemon = ask_daemon(settings.http.host, settings.http.port, holder, authorization(settings.http.auth))
    except StateError as error:  # other credentials: what is on disk can be told all the same
        return None, str(error)
    if daemon is None:
        return None, (
            f"the process {holder} holds the folder and does not answer on http.port {settings.http.port}, or has not "
            "loaded its state yet"
        )
    return daemon.index, None if daemon.index is not None else "the daemon has not looked at its index yet"


def replayed(settings: Settings) -> Recovered:
    """Everything the changelog holds, read from its beginning. Raises ChangelogError if it is not whole."""
    with closing(open_reader(settings)) as reader:
        return rebuild(_entries(reader, settings.output.changelog_topic))


def _entries(reader: LogReader, topic: str) -> Iterator[tuple[ChangelogPosition, ChangelogRow | Trailer]]:
    for record in reader.read(topic, follow=False, stop=lambda: False):
        yield ChangelogPosition(record.offset), decode_changelog(record)


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


def what_reset_does(settings: Settings) -> str:
    """What `reset` would delete, in words, for the question that comes before it."""
    facts = info(settings)
    snapshot = facts["snapshot"]
    held = "no snapshot" if snapshot is None else f"a snapshot of {snapshot['uniques']} uniques"
    return (
        f"{facts['folder']} holds {held} ({facts['bytes']} bytes). Everything in it is deleted. No unique is lost: "
        f"the changelog {settings.output.changelog_topic!r} keeps them all, and the next start replays it from its "
        "beginning."
    )


def reset(settings: Settings) -> None:
    """Empty the state folder. Raises StateError while a daemon holds it."""
    state = StateStore(settings.state.dir, fingerprint=None, dimension=settings.gradient.dimension)
    state.open()
    try:
        state.forget()
        shutil.rmtree(settings.state.dir / PAGE_FOLDER, ignore_errors=True)
    except OSError as error:
        raise StateError(f"the state folder {settings.state.dir} cannot be emptied ({error})") from error
    finally:
        state.close()


@dataclass(frozen=True, slots=True)
class Adoption:
    """A partition whose group offset is not the changelog's: decided up to `decided`, to continue at `committed`."""

    place: str
    decided: int
    committed: int

    def __str__(self) -> str:
        """One line: both offsets, and what it means to accept the group's."""
        records = abs(self.committed - self.decided)
        what = (
            f"the {records} records in between are skipped for good, without a verdict"
            if self.committed > self.decided
            else f"{records} records are decided again, and each gets a second verdict"
        )
        return f"{self.place}: decided up to {self.decided}, the group is at {self.committed}: {what}"


def adoptions(settings: Settings) -> tuple[Adoption, ...]:
    """What `dugs index adopt-offsets` would change; empty if changelog and group agree. Changes nothing itself."""
    with closing(open_log(settings)) as log:
        log.prepare()
        trailer = _last_trailer(settings, log)
        committed = log.committed_offsets()
    decided = {} if trailer is None else trailer.next_offsets
    return tuple(
        Adoption(f"{settings.input.topic}/{partition}", decided[partition], committed[partition])
        for partition in sorted(decided.keys() & committed.keys())
        if decided[partition] != committed[partition]
    )


def _last_trailer(settings: Settings, log: Log) -> Trailer | None:
    """The changelog's last trailer; a snapshot saves reading what it covers."""
    snapshot = find_newest(settings.state.dir).snapshot
    start, end = log.changelog_bounds()
    trailer = None if snapshot is None else snapshot.trailer
    known = start if snapshot is None else max(start, snapshot.changelog_position)
    for _position, message in log.read_changelog(known, end):
        entry = decode_changelog(message)
        trailer = entry if isinstance(entry, Trailer) else trailer
    return trailer
