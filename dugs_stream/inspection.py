"""What does the index hold, and is it what the changelog says? Looks from outside; `reset` alone changes anything."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dugs_stream.app import open_reader
from dugs_stream.config import Settings
from dugs_stream.errors import StateError
from dugs_stream.log.port import Message
from dugs_stream.log.wire import decode_changelog
from dugs_stream.records import ChangelogPosition, ChangelogRow, Trailer
from dugs_stream.state.folder import StateFolder
from dugs_stream.state.live import LiveState
from dugs_stream.state.recovery import BEGINNING, Recovered, rebuild
from dugs_stream.state.snapshot import find_newest

__all__ = ["Verification", "export", "info", "replayed", "reset", "verify"]


@dataclass(frozen=True, slots=True)
class Verification:
    """How the state folder compares with the replay of the changelog; difference is the first one found."""

    rows_on_disk: int
    rows_replayed: int
    difference: str | None

    @property
    def is_equal(self) -> bool:
        """Whether every row on disk is the changelog's, bit for bit."""
        return self.difference is None

    def __str__(self) -> str:
        """One line for people."""
        if self.difference is not None:
            return f"different: {self.difference}"
        behind = self.rows_replayed - self.rows_on_disk
        note = f"; {behind} later ones come from the changelog at the next start" if behind else ""
        return f"equal: {self.rows_on_disk} rows on disk are the changelog's, bit for bit{note}"


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
        message = Message(record.key, record.value, record.headers, record.timestamp_ms)
        yield ChangelogPosition(record.offset), decode_changelog(message)


def verify(settings: Settings) -> Verification:
    """Hold every row of the state folder against the changelog's. Raises StateError while a daemon has the folder."""
    folder = settings.state.dir
    if not folder.exists():
        return Verification(0, len(replayed(settings).events), None)
    with StateFolder(folder):
        damaged = find_newest(folder).damaged  # asked before `open`, which sets them aside
    if damaged:
        return _damaged([path.name for path in damaged])
    state = LiveState(folder, fingerprint=None, dimension=settings.gradient.dimension)
    loaded = state.open()
    try:
        if loaded.missing:
            return _damaged([missing.file for missing in loaded.missing])
        return _compare(state, replayed(settings))
    finally:
        state.close()


def _damaged(files: Sequence[str]) -> Verification:
    difference = f"damaged on disk: {', '.join(files)}; the next start mends it from the changelog"
    return Verification(0, 0, difference)


def _compare(state: LiveState, truth: Recovered) -> Verification:
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


def reset(settings: Settings) -> None:
    """Empty the state folder. Raises StateError while a daemon has it."""
    state = LiveState(settings.state.dir, fingerprint=None, dimension=settings.gradient.dimension)
    state.open()
    try:
        state.forget()
    except OSError as error:
        raise StateError(f"the state folder {settings.state.dir} cannot be emptied ({error})") from error
    finally:
        state.close()
