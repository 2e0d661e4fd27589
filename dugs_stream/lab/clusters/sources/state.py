"""Uniques of a state folder's newest snapshot, or of the changelog behind it. A daemon may hold both meanwhile."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from dugs_stream.commands.index import replayed
from dugs_stream.config import Settings
from dugs_stream.lab.clusters.sources.duplicates import absorbed_by
from dugs_stream.lab.clusters.sources.page_store import PageStore
from dugs_stream.lab.clusters.uniques import Event, MatrixRows, Uniques, labels_of
from dugs_stream.lab.decisions_of_list import origin_in_state, origin_of
from dugs_stream.lab.listener import Listener
from dugs_stream.state.reading import SnapshotReader

_TOLD_EACH = 1_000


def from_state(settings: Settings, listener: Listener) -> tuple[Uniques, str]:
    """The uniques, and the fingerprint of the model that they were judged by.

    Raises StateError if the folder has no snapshot or is damaged; vectors are verified as they are read.
    """
    folder = settings.state.dir
    reader = SnapshotReader(folder)
    count, fingerprint = len(reader.rows), reader.snapshot.trailer.fingerprint
    listener.stage(f"Reading {count:,} uniques of {folder}")
    labels = labels_of(_told(reader.events(), count, listener))
    page = PageStore(settings, fingerprint)

    def events_of(sequences: Sequence[int]) -> dict[int, Event]:
        return {each: json.loads(event) for each, event in reader.events_of(sequences).items()}

    absorbed, remarks = absorbed_by(settings, count, origin_in_state(reader), page, listener)
    return Uniques(
        "state", str(folder), reader.rows, labels, absorbed, events_of, page.thumbnails, remarks
    ), fingerprint


def from_changelog(settings: Settings, listener: Listener) -> tuple[Uniques, str]:
    """As `from_state`, read from the changelog's beginning to its end. Raises ChangelogError if it is not whole."""
    topic = settings.output.changelog_topic
    listener.stage(f"Reading {topic}")
    truth = replayed(settings)
    origin = origin_of(truth.events)
    page = PageStore(settings, origin.fingerprint)
    absorbed, remarks = absorbed_by(settings, len(truth.events), origin, page, listener)

    def events_of(sequences: Sequence[int]) -> dict[int, Event]:
        return {each: truth.events[each] for each in sequences}

    rows, labels = MatrixRows(truth.vectors), labels_of(truth.events)
    return Uniques(
        "changelog", topic, rows, labels, absorbed, events_of, page.thumbnails, remarks
    ), origin.fingerprint


def _told(events: Iterator[str], total: int, listener: Listener) -> Iterator[dict[str, Any]]:
    for number, event in enumerate(events, start=1):
        if number % _TOLD_EACH == 0 or number == total:
            listener.progress(number, total)
        yield json.loads(event)
