"""`dugs send`: files onto the input topic."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from dugs_stream.app.logs import open_writer, prepare_input
from dugs_stream.commands.file_listing import Failures, listing_of, missing_classes
from dugs_stream.commands.progress import Progress, silent
from dugs_stream.config import Settings
from dugs_stream.inputs.files import Listing
from dugs_stream.inputs.rows.fields import RowFields
from dugs_stream.records import Record


@dataclass(frozen=True, slots=True)
class Sent:
    """What was sent.

    records      how many
    passed_over  how many files of each ending are not for the codec
    failures     files, folders and rows that could not be read, each once; the others were sent
    unclassed    that files have no class, if so
    """

    records: int
    passed_over: Mapping[str, int]
    failures: Failures
    unclassed: str | None = None


def send(
    settings: Settings,
    paths: Sequence[Path],
    *,
    fields: RowFields | None = None,
    repeat: int = 1,
    limit: int | None = None,
    on_progress: Progress = silent,
) -> Sent:
    """Send the files under `paths` and their rows, all of them `repeat` times, at most `limit` records.

    They are stored durably when it returns.
    """
    listing, failures = listing_of(settings, paths, fields), Failures()
    failures.extend(listing.failures)
    each = listing.count()
    total = None if each is None else min(each * repeat, limit or each * repeat)
    done = 0
    prepare_input(settings)
    with closing(open_writer(settings)) as writer:
        records = itertools.islice(_repeated(listing, repeat, failures), limit)
        for done, record in enumerate(records, start=1):
            writer.send(settings.input.topic, record)
            on_progress(done, total)
        writer.flush()
    return Sent(done, listing.passed_over, failures, missing_classes(settings, listing))


def _repeated(listing: Listing, repeat: int, failures: Failures) -> Iterator[Record]:
    """The records again and again; what cannot be read is the same each time and counts once."""
    yield from listing.samples(failures.add)
    for _ in range(repeat - 1):
        yield from listing.samples(lambda _problem: None)
