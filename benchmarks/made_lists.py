"""Lists of uniques that no daemon had to decide: rows and trailers on a changelog, through the log's own transactions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dugs_stream.app.engine import build_engine
from dugs_stream.app.logs import open_log, topic_names
from dugs_stream.changelog.checksum import NO_ROWS, chain
from dugs_stream.changelog.wire import row_message, trailer_message
from dugs_stream.config import Settings
from dugs_stream.log.port import BatchLimits, Log, Outgoing
from dugs_stream.records import ChangelogRow, Message, SequenceNumber, Trailer

_NOTHING = BatchLimits(records=1, wait_ms=0, bytes=1)


def put_list(settings: Settings, blocks: Iterable[NDArray[np.float32]]) -> None:
    """Make the rows of all blocks the list of a deployment that has none; one transaction a block, nothing polled before.

    blocks  unit rows (n, k) float32
    """
    fingerprint = build_engine(settings).identity.fingerprint
    log = open_log(settings)
    log.prepare()
    ownership = log.acquire(lambda: False)
    if ownership is None:
        raise RuntimeError("the log was given to nobody")
    log.seek({0: 0})
    checksum, uniques = NO_ROWS, 0
    for vectors in blocks:
        rows = list(rows_of(settings, vectors, uniques, fingerprint))
        for row in rows:
            checksum = chain(checksum, row)
        uniques += len(rows)
        trailer = trailer_of(settings, uniques, checksum, fingerprint, ownership.input_topic_id)
        _commit(log, settings, [*(row_message(row) for row in rows), trailer_message(trailer)])
    log.close()


def rows_of(
    settings: Settings, vectors: NDArray[np.float32], start: int, fingerprint: str
) -> Iterator[ChangelogRow]:
    """A changelog row for each vector, numbered from `start` on."""
    topic, threshold = settings.input.topic, settings.selection.threshold
    for number, vector in enumerate(vectors, start=start):
        event: dict[str, Any] = {
            "id": f"{topic}/0/{number}", "type": "unique", "time": "2026-01-01T00:00:00.000Z",
            "source": {"topic": topic, "partition": 0, "offset": number, "key": f"k{number}",
                       "timestamp": 1_767_225_600_000},
            "sequence": number, "similarity": 0.1, "threshold": threshold,
            "nearest": {"sequence": 0, "id": f"{topic}/0/0"}, "gradient_norm": 1.0, "label": 0,
            "label_source": "given", "model": {"name": "made", "fingerprint": fingerprint},
        }  # fmt: skip
        yield ChangelogRow(SequenceNumber(number), event, vector)


def trailer_of(
    settings: Settings, uniques: int, checksum: str, fingerprint: str, input_topic_id: str
) -> Trailer:
    """The trailer after so many rows, with nothing of the input decided."""
    return Trailer(
        uniques=uniques,
        checksum=checksum,
        next_offsets={0: 0},
        batch_ranges={},
        fingerprint=fingerprint,
        threshold=settings.selection.threshold,
        min_gradient_norm=0.0,
        input_topic=settings.input.topic,
        input_topic_id=input_topic_id,
        group=settings.input.group,
    )


def _commit(log: Log, settings: Settings, messages: list[Message]) -> None:
    changelog = topic_names(settings).changelog
    with log.transaction(log.poll(_NOTHING)) as transaction:
        flushed = transaction.publish([Outgoing(changelog, message) for message in messages])
        transaction.commit(transaction.stage_offsets(flushed, {0: 0}))
