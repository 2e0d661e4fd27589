"""`dugs send`: files onto the input topic."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from dugs_stream.app.logs import open_writer, prepare_input
from dugs_stream.commands.progress import Progress, silent
from dugs_stream.config import Settings
from dugs_stream.inputs.files import list_files


def send(
    settings: Settings,
    paths: Sequence[Path],
    *,
    repeat: int = 1,
    limit: int | None = None,
    on_progress: Progress = silent,
) -> int:
    """Send the files under `paths`, all of them `repeat` times, at most `limit` records; returns how many were sent.

    They are stored durably when it returns.
    """
    listing = list_files(paths, settings.input.codec.type)
    total = min(len(listing) * repeat, limit or len(listing) * repeat)
    records = itertools.chain.from_iterable(listing.samples() for _ in range(repeat))
    prepare_input(settings)
    with closing(open_writer(settings)) as writer:
        for done, record in enumerate(itertools.islice(records, total), start=1):
            writer.send(settings.input.topic, record)
            on_progress(done, total)
        writer.flush()
    return total
