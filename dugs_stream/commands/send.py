"""`dugs send`: files onto the input topic."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from dugs_stream.app.logs import open_writer, prepare_input
from dugs_stream.commands.file_listing import listing_of
from dugs_stream.commands.progress import Progress, silent
from dugs_stream.config import Settings
from dugs_stream.errors import Problem


@dataclass(frozen=True, slots=True)
class Sent:
    """What was sent.

    records      how many
    passed_over  how many files of each ending are not for the codec
    failures     files and folders that could not be read, each once; the others were sent
    """

    records: int
    passed_over: Mapping[str, int]
    failures: Sequence[Problem]


def send(
    settings: Settings,
    paths: Sequence[Path],
    *,
    repeat: int = 1,
    limit: int | None = None,
    on_progress: Progress = silent,
) -> Sent:
    """Send the files under `paths`, all of them `repeat` times, at most `limit` records.

    They are stored durably when it returns.
    """
    listing = listing_of(settings, paths)
    failures = dict.fromkeys(listing.failures)  # the same file fails at each repetition
    total = min(len(listing) * repeat, limit or len(listing) * repeat)
    records = itertools.chain.from_iterable(
        listing.samples(lambda problem: failures.update({problem: None})) for _ in range(repeat)
    )
    done = 0
    prepare_input(settings)
    with closing(open_writer(settings)) as writer:
        for done, record in enumerate(itertools.islice(records, total), start=1):
            writer.send(settings.input.topic, record)
            on_progress(done, total)
        writer.flush()
    return Sent(done, listing.passed_over, tuple(failures))
