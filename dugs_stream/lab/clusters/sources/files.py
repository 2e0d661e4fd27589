"""Uniques among files: judged in memory as `dugs scan` judges them, with the duplicates that each absorbed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dugs_stream.app.web import Shown, shown_as
from dugs_stream.commands.file_listing import listing_of
from dugs_stream.commands.scan import Scanned, scan
from dugs_stream.config import Settings
from dugs_stream.core.index.rows import Rows
from dugs_stream.inputs.files import Listing
from dugs_stream.inputs.rows.fields import RowFields
from dugs_stream.lab.clusters.uniques import Absorbed, Event, Uniques, labels_of
from dugs_stream.lab.listener import Listener
from dugs_stream.lab.samples import thumbnail_of
from dugs_stream.ops.gallery.thumbnails import Thumbnail
from dugs_stream.records import Verdict


@dataclass(frozen=True, slots=True)
class ScannedUniques:
    """The uniques, what the scan came to, and what an interrupt cut short."""

    uniques: Uniques
    scanned: Scanned
    interrupted: str | None


def from_files(
    settings: Settings, paths: Sequence[Path], fields: RowFields, listener: Listener
) -> ScannedUniques:
    """Judge the files under `paths`. Raises as `scan` does; an interrupt leaves the uniques found so far."""
    rows, events, duplicates = Rows(settings.gradient.dimension), list[Event](), list[int]()
    done = 0

    def take(line: str) -> None:
        nonlocal done
        done += 1
        event = json.loads(line)
        if event["type"] == Verdict.UNIQUE:
            events.append(event)
            duplicates.append(0)
        elif event["type"] == Verdict.DUPLICATE:
            duplicates[event["nearest"]["sequence"]] += 1

    listener.stage("Judging the files")
    scanned = scan(
        settings,
        paths,
        take,
        fields=fields,
        on_progress=listener.progress,
        on_unique=lambda vector: rows.add(vector[np.newaxis]),
        stop=listener.wants_stop,
    )
    listing, shown = listing_of(settings, paths, fields), shown_as(settings)

    def thumbnails(sequences: Sequence[int]) -> dict[int, Thumbnail]:
        return _thumbnails(listing, shown, {events[each]["id"]: each for each in sequences})

    uniques = Uniques(
        "files",
        ", ".join(map(str, paths)),
        rows,
        labels_of(events),
        Absorbed(np.array(duplicates, dtype=np.int64), "files"),
        lambda sequences: {each: events[each] for each in sequences},
        thumbnails,
        _remarks(scanned),
    )
    interrupted = f"judging the files: {done:,} records were judged" if listener.wants_stop() else None
    return ScannedUniques(uniques, scanned, interrupted)


def _remarks(scanned: Scanned) -> tuple[str, ...]:
    """What was not judged, for the report; `dugs scan` says more of it."""
    rejected, failed = scanned.verdicts.get(Verdict.REJECTED, 0), scanned.failures.count
    passed_over = sum(scanned.passed_over.values())
    return (
        *([f"{rejected:,} records were rejected: `dugs scan` says why"] if rejected else []),
        *([f"{failed:,} files or rows could not be read: `dugs scan` names them"] if failed else []),
        *([f"{passed_over:,} files are not for the codec"] if passed_over else []),
    )


def _thumbnails(listing: Listing, shown: Shown, wanted: dict[str, int]) -> dict[int, Thumbnail]:
    """Read again: keeping every unique's record would take the memory of all of them."""
    found: dict[int, Thumbnail] = {}
    missing = set(wanted)
    for record in listing.samples(lambda _problem: None):
        if not missing:
            break
        if record.id not in missing:
            continue
        missing.discard(record.id)
        thumbnail = thumbnail_of(record.value or b"", shown)
        if thumbnail is not None:
            found[wanted[record.id]] = thumbnail
    return found
