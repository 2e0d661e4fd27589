"""Judges a deployment after faults, from what lies on the log and on the disk alone.

    every input record decided exactly once, poison rejected and in the dead-letter topic as it was
    decisions as the plain sequential algorithm in the order of the decisions topic
    unique topic = unique decisions; sequence without hole or repeat
    changelog: rows and trailers whole, their checksum and offsets right, the last one the group's offsets
    state folder: a prefix of the changelog, bit for bit

Shares no code with the daemon: JSON, hashlib, SQLite and numpy.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.support.oracles.log_contents import LogContents, LoggedRecord
from tests.support.oracles.sequential import check_decisions

Vectors = Mapping[str, NDArray[np.float32]]
"""Record id → projected gradient; a record that cannot be judged has none."""


@dataclass(frozen=True, slots=True)
class Names:
    """The deployment's topics."""

    input: str
    unique: str
    decisions: str
    dead_letter: str
    changelog: str

    @property
    def all(self) -> tuple[str, ...]:
        """Every one of them."""
        return (self.input, self.unique, self.decisions, self.dead_letter, self.changelog)


@dataclass(frozen=True, slots=True)
class Expected:
    """What is special about this deployment.

    inputs        every record that was ever on the input, by id
    lost          ids that may be undecided: they were deleted before anybody could read them
    thresholds    the thresholds in force, in their order
    is_compacted  of the changelog: old trailers may be gone, rows never
    """

    inputs: Mapping[str, LoggedRecord]
    lost: frozenset[str] = frozenset()
    thresholds: tuple[float, ...] = (0.5,)
    is_compacted: bool = False


def check_deployment(seen: LogContents, names: Names, vectors: Vectors, expected: Expected) -> int:
    """Raise AssertionError on the first difference; returns how many uniques there are."""
    decisions = [_event(record) for record in seen.records[names.decisions]]
    doubled = [name for name, count in Counter(event["id"] for event in decisions).items() if count > 1]
    assert not doubled, f"decided twice: {doubled[:5]} ({len(doubled)} in all)"
    decided = {event["id"] for event in decisions}
    missing = sorted(set(expected.inputs) - decided - expected.lost)
    assert not missing, f"never decided: {missing[:5]} ({len(missing)} in all)"
    assert decided <= set(expected.inputs), f"nobody sent: {sorted(decided - set(expected.inputs))[:5]}"
    check_decisions(decisions, vectors, None, decided)
    _check_thresholds(decisions, expected.thresholds)
    uniques = [event for event in decisions if event["type"] == "unique"]
    assert [event["sequence"] for event in uniques] == list(range(len(uniques)))
    published = [_event(record) for record in seen.records[names.unique]]
    assert published == uniques, _first_difference(published, uniques)
    _check_dead_letters(seen.records[names.dead_letter], decisions, expected.inputs)
    _check_changelog(seen, names, uniques, vectors, expected)
    return len(uniques)


def _event(record: LoggedRecord) -> dict[str, Any]:
    assert record.value is not None, record
    event: dict[str, Any] = json.loads(record.value)
    return event


def _first_difference(ours: Sequence[Any], theirs: Sequence[Any]) -> str:
    for place, (one, other) in enumerate(zip(ours, theirs, strict=False)):
        if one != other:
            return f"at {place}: {one} instead of {other}"
    return f"{len(ours)} instead of {len(theirs)}"


def _check_thresholds(decisions: Sequence[Mapping[str, Any]], expected: Sequence[float]) -> None:
    in_force: list[float] = []
    for event in decisions:
        if not in_force or in_force[-1] != event["threshold"]:
            in_force.append(event["threshold"])
    assert in_force in ([], list(expected)), f"thresholds in force were {in_force}, set were {expected}"


def _check_dead_letters(
    letters: Sequence[LoggedRecord],
    decisions: Sequence[Mapping[str, Any]],
    inputs: Mapping[str, LoggedRecord],
) -> None:
    rejected = [event for event in decisions if event["type"] == "rejected"]
    named = [json.loads(letter.header("dugs_event") or b"{}") for letter in letters]
    assert named == rejected, _first_difference(named, rejected)
    for letter, event in zip(letters, rejected, strict=True):
        record = inputs[event["id"]]
        assert (letter.key, letter.value or b"") == (record.key, record.value or b""), event["id"]
        assert letter.header("dugs_reason") == event["reason"].encode()
    poison = {name for name, record in inputs.items() if (record.key or b"").startswith(b"poison")}
    decided = {event["id"] for event in decisions}
    assert {event["id"] for event in rejected} == poison & decided


# -- the changelog -----------------------------------------------------------------------------------------


def _check_changelog(
    seen: LogContents,
    names: Names,
    uniques: Sequence[Mapping[str, Any]],
    vectors: Vectors,
    expected: Expected,
) -> None:
    rows, checksum = 0, bytes(32)
    trailer: dict[str, Any] | None = None
    ranges: dict[str, list[tuple[int, int]]] = {}
    for record in seen.records[names.changelog]:
        if record.key == b"trailer":
            trailer = json.loads(record.value or b"")
            assert trailer["uniques"] == rows, (
                f"trailer at {record.offset} counts {trailer['uniques']}, not {rows}"
            )
            assert trailer["checksum"] == checksum.hex(), f"trailer at {record.offset}: wrong checksum"
            for partition, (first, last) in trailer["batch_ranges"].items():
                ranges.setdefault(partition, []).append((first, last))
            continue
        assert record.key == b"unique/%020d" % rows, f"row {record.key!r} where {rows} was due"
        assert rows < len(uniques), f"row {rows} was never published"
        event = json.loads(record.header("dugs_event") or b"{}")
        assert event == uniques[rows], _first_difference([event], [uniques[rows]])
        assert record.value == vectors[event["id"]].astype("<f4").tobytes(), f"the vector of row {rows}"
        checksum = _chained(checksum, rows, event, record.value)
        rows += 1
    assert rows == len(uniques), f"{len(uniques)} uniques were published, the changelog has {rows}"
    if trailer is None:
        assert not seen.records[names.decisions], "decisions without any trailer"
        return
    if not expected.is_compacted:
        _check_ranges(ranges, expected)
    offsets = {int(partition): offset for partition, offset in trailer["next_offsets"].items()}
    assert offsets == dict(seen.committed), f"trailer {offsets}, group {seen.committed}"


def _chained(before: bytes, row: int, event: Mapping[str, Any], vector: bytes) -> bytes:
    """SHA-256 over the link before, the number, the event's length and text, and the vector."""
    text = json.dumps(event, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(before + struct.pack("<qQ", row, len(text)) + text + vector).digest()


def _check_ranges(ranges: Mapping[str, Sequence[tuple[int, int]]], expected: Expected) -> None:
    """The batches of a partition follow one another and hold every record of it once."""
    for partition, batches in ranges.items():
        offsets = sorted(
            record.offset
            for name, record in expected.inputs.items()
            if record.partition == int(partition) and name not in expected.lost
        )
        at = 0
        for first, last in batches:
            assert offsets[at : at + 1] == [first], (
                f"partition {partition}: a batch from {first}, due {offsets[at : at + 1]}"
            )
            at = offsets.index(last) + 1
        assert at == len(offsets), f"partition {partition}: decided up to {offsets[at - 1]} of {offsets[-1]}"


# -- the disk ----------------------------------------------------------------------------------------------


def check_state_folder(folder: Path, changelog: Sequence[LoggedRecord], *, is_complete: bool) -> int:
    """The newest snapshot holds the changelog's first rows, bit for bit; returns how many."""
    rows = [record for record in changelog if record.key != b"trailer"]
    newest = max(folder.glob("snapshot-*.json"), default=None)
    if newest is None:
        assert not is_complete or not changelog, "no snapshot was left"
        return 0
    sealed = json.loads(newest.read_bytes())
    facts = sealed["facts"]
    text = json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()
    assert hashlib.sha256(text).hexdigest() == sealed["sha256"], f"{newest.name} is not what it says it is"
    count = int(facts["trailer"]["uniques"])
    assert count <= len(rows), f"{count} rows on disk, {len(rows)} in the changelog"
    assert not is_complete or count == len(rows), f"{count} rows on disk of {len(rows)}"
    assert b"".join(_segments(folder, facts)) == b"".join(record.value or b"" for record in rows[:count])
    with closing(sqlite3.connect(f"file:{folder / 'metadata.db'}?mode=ro", uri=True)) as connection:
        stored = connection.execute("SELECT sequence, id, event FROM events ORDER BY sequence").fetchall()
    events = [json.loads(record.header("dugs_event") or b"{}") for record in rows]
    kept = [(sequence, name, json.loads(event)) for sequence, name, event in stored][:count]
    assert kept == [(place, event["id"], event) for place, event in enumerate(events[:count])]
    return count


def _segments(folder: Path, facts: Mapping[str, Any]) -> Iterator[bytes]:
    for segment in facts["segments"]:
        content = (folder / f"vectors-{segment['number']:05d}.f32").read_bytes()
        content = content[: segment["rows"] * facts["dimension"] * 4]
        assert hashlib.sha256(content).hexdigest() == segment["sha256"], segment
        yield content
