"""Records of a sample: drawn from files, or the newest of a topic, as they were stored.

A topic is read without joining the group and without a commit, so that a daemon goes on undisturbed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from dugs_stream.app.logs import open_reader
from dugs_stream.commands.file_listing import Failures, listing_of, missing_classes
from dugs_stream.config import Settings
from dugs_stream.errors import StateError
from dugs_stream.inputs.files import Listing
from dugs_stream.inputs.rows.fields import RowFields
from dugs_stream.lab.listener import Listener
from dugs_stream.records import Record

MOST_RECORDS = 2_000
"""Enough for a share of uniques that is sure to some percent of itself, and for all pairs in 16 MB."""

_MOST_BYTES = 1 << 30
"""Of the values that are kept: they are shown, and projected again under other layers."""
_TOLD_EACH = 256


@dataclass(frozen=True, slots=True)
class Source:
    """Where a sample comes from: files under `paths`, or without any the newest records of the input topic.

    most      records at most; files are drawn at random with `seed`, and keep their order
    is_mixed  files in a random order instead: folders are classes, and a stream brings these mixed
    """

    paths: tuple[Path, ...] = ()
    fields: RowFields | None = None
    most: int = MOST_RECORDS
    seed: int = 0
    is_mixed: bool = False


@dataclass(frozen=True, slots=True)
class DrawnRecords:
    """Records as they were stored, undecoded, in order of arrival.

    there        how many there were to draw from; None: nobody counted
    interrupted  what an interrupt cut short
    """

    kind: Literal["files", "topic"]
    place: str
    records: tuple[Record, ...]
    there: int | None
    remarks: tuple[str, ...] = ()
    interrupted: str | None = None


def draw_records(settings: Settings, source: Source, listener: Listener) -> DrawnRecords:
    """Some records of the source, all if there are no more. An interrupt leaves those read so far.

    Raises ConfigurationError for paths without such files, or a topic that does not exist, and StateError for a source
    without records.
    """
    drawn = _of_files(settings, source, listener) if source.paths else _of_topic(settings, source, listener)
    if not drawn.records:
        raise StateError(f"{drawn.place} holds no record to take a sample of; send some first")
    return drawn


def _of_files(settings: Settings, source: Source, listener: Listener) -> DrawnRecords:
    listing, failures = listing_of(settings, source.paths, source.fields), Failures()
    failures.extend(listing.failures)
    place = ", ".join(map(str, source.paths))
    listener.stage(f"Reading a sample of {place}")
    there: int | None = None
    if len(listing.whole_files) == len(listing):  # then the others need not even be read
        there = len(listing)
        chosen = _some_of(listing, source)
        records, is_cut = _all(chosen.samples(failures.add), len(chosen), listener)
    else:
        records, seen, is_cut = _reservoir(listing.samples(failures.add), source, listener)
        there = None if is_cut else seen
    unclassed = missing_classes(settings, listing)
    order = np.random.default_rng(source.seed).permutation(len(records)) if source.is_mixed else None
    return DrawnRecords(
        "files",
        place,
        tuple(records if order is None else (records[at] for at in order)),
        there,
        (
            *([f"{failures.count:,} files or rows could not be read: `dugs scan` names them"] if failures.count else []),
            *([f"{listing.left_out:,} files are not for the codec"] if listing.left_out else []),
            *([unclassed] if unclassed else []),
            *_on_size(records),
        ),
        f"reading the sample: {len(records):,} records were read" if is_cut and listener.wants_stop() else None,
    )  # fmt: skip


def _some_of(listing: Listing, source: Source) -> Listing:
    if len(listing) <= source.most:
        return listing
    drawn = np.random.default_rng(source.seed).choice(len(listing), source.most, replace=False)
    return replace(listing, files=tuple(listing.files[at] for at in sorted(drawn.tolist())))


def _all(found: Iterator[Record], total: int | None, listener: Listener) -> tuple[list[Record], bool]:
    """The records, and whether they were cut short: by an interrupt, or by their size."""
    records, size = list[Record](), 0
    for record in found:
        records.append(record)
        size += len(record.value or b"")
        if len(records) % _TOLD_EACH == 0:
            listener.progress(len(records), total)
            if listener.wants_stop():
                return records, True
        if size > _MOST_BYTES:
            return records, True
    return records, False


def _reservoir(found: Iterator[Record], source: Source, listener: Listener) -> tuple[list[Record], int, bool]:
    """Records drawn at random from rows of which nobody knows the number (Vitter's algorithm R), and how many were read."""
    generator = np.random.default_rng(source.seed)
    kept, size, seen = list[Record](), 0, 0
    for record in found:
        seen += 1
        if len(kept) < source.most:
            kept.append(record)
            size += len(record.value or b"")
        elif (place := int(generator.integers(seen))) < source.most:
            size += len(record.value or b"") - len(kept[place].value or b"")
            kept[place] = record
        if seen % _TOLD_EACH == 0:
            listener.progress(seen, None)
        if size > _MOST_BYTES or (seen % _TOLD_EACH == 0 and listener.wants_stop()):
            return sorted(kept, key=lambda each: each.offset), seen, True
    return sorted(kept, key=lambda each: each.offset), seen, False


def _of_topic(settings: Settings, source: Source, listener: Listener) -> DrawnRecords:
    """The newest records as of now: one that comes while they are read is left out."""
    topic = settings.input.topic
    listener.stage(f"Reading a sample of {topic}")
    with closing(open_reader(settings)) as reader:
        beginnings, ends = reader.bounds(topic)
        start = _newest(beginnings, ends, source.most)
        found = reader.read(topic, follow=False, stop=listener.wants_stop, start=start)
        until = (record for record in found if record.offset < ends.get(record.partition, 0))
        records, is_cut = _all(until, source.most, listener)
    # Partitions are read one after the other; the daemon meets them mixed.
    if len(ends) > 1 and all(each.timestamp_ms is not None for each in records):
        records.sort(key=lambda each: (each.timestamp_ms or 0, each.partition, each.offset))
    expected = sum(ends[each] - start[each] for each in ends)
    missing = expected - len(records)
    gone = "offsets hold no record: they were pruned or compacted, or belong to transactions"
    was_stopped = listener.wants_stop()
    return DrawnRecords(
        "topic",
        topic,
        tuple(records),
        sum(ends[each] - beginnings[each] for each in ends),
        (
            *([f"{missing:,} {gone}"] if missing and not is_cut and not was_stopped else []),
            *_on_size(records),
        ),
        f"reading the sample: {len(records):,} records were read" if was_stopped else None,
    )


def _newest(beginnings: Mapping[int, int], ends: Mapping[int, int], most: int) -> dict[int, int]:
    """Where to begin in each partition, so that each gives its share of the newest `most` offsets."""
    lengths = {each: ends[each] - beginnings[each] for each in ends}
    total = sum(lengths.values())
    if total <= most:
        return dict(beginnings)
    return {each: ends[each] - round(length * most / total) for each, length in lengths.items()}


def _on_size(records: Sequence[Record]) -> list[str]:
    size = sum(len(record.value or b"") for record in records)
    if size <= _MOST_BYTES:
        return []
    return [f"reading ended at {len(records):,} records, which are {size / 2**20:,.0f} MiB"]
