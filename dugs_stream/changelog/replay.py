"""Changelog replay: the list of uniques, row by row, with every number and checksum verified.

Pure: no log, no disk, no index. Compaction removes all trailers but the last, so rows of many batches may stand
before one trailer; each trailer is checked against the rows before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dugs_stream.changelog.checksum import NO_ROWS, chain
from dugs_stream.errors import NEW_LIST, OTHER_MODEL, ChangelogError
from dugs_stream.records import ChangelogPosition, ChangelogRow, Trailer

# Rows handed on without a trailer: 4 096 vectors of k = 2048 are 32 MiB, so that replaying a compacted changelog of
# any length needs bounded memory.
_ROWS_AT_ONCE = 4_096


@dataclass(frozen=True, slots=True)
class ChangelogHead:
    """The end of the changelog after a trailer: where a replay starts, and what the next trailer goes on from.

    uniques, checksum  number of rows up to here, and the checksum over them
    position           the changelog position after the trailer
    next_offsets       per input partition, the offset of the next record to decide
    """

    uniques: int
    checksum: str
    position: ChangelogPosition
    next_offsets: Mapping[int, int] = field(default_factory=dict)
    input_topic_id: str = ""

    @classmethod
    def after(cls, trailer: Trailer, position: ChangelogPosition) -> ChangelogHead:
        """The head behind this trailer, which is the last message before `position`."""
        return cls(trailer.uniques, trailer.checksum, position, trailer.next_offsets, trailer.input_topic_id)


BEGINNING = ChangelogHead(0, NO_ROWS, ChangelogPosition(0))


@dataclass(frozen=True, slots=True)
class Replayed:
    """Rows in order, and the trailer after them; None if more rows follow before the next trailer.

    Rows are valid only once a trailer has come after them. position is the one after the last entry.
    """

    rows: tuple[ChangelogRow, ...]
    trailer: Trailer | None
    position: ChangelogPosition


def replay(
    start: ChangelogHead,
    entries: Iterable[tuple[ChangelogPosition, ChangelogRow | Trailer]],
    fingerprint: str | None = None,
) -> Iterator[Replayed]:
    """The batches that `entries`, from start.position on, add to the rows that `start` counts.

    Raises ChangelogError, naming the position, for a row that is missing, repeated or changed, a trailer that
    does not fit the rows before it, a trailer with another fingerprint than the one given, and rows without a
    trailer at the end. The caller must then drop the rows that came after the last trailer.
    """
    uniques, checksum = start.uniques, start.checksum
    rows: list[ChangelogRow] = []
    last_row: ChangelogPosition | None = None
    for position, entry in entries:
        after = ChangelogPosition(position + 1)
        if isinstance(entry, Trailer):
            _require_fit(position, entry, uniques, checksum)
            if fingerprint not in (None, entry.fingerprint):
                raise ChangelogError(
                    f"changelog position {position}: the list was built by the model {entry.fingerprint}, the "
                    f"configuration names {fingerprint}. {OTHER_MODEL}"
                )
            yield Replayed(tuple(rows), entry, after)
            rows, last_row = [], None
            continue
        if entry.sequence != uniques:
            what = "repeated" if entry.sequence < uniques else "missing"
            raise _contradiction(
                position,
                f"found row {entry.sequence}, expected row {uniques}; row {min(uniques, entry.sequence)} is {what}",
            )
        checksum = chain(checksum, entry)
        uniques += 1
        rows.append(entry)
        last_row = position
        if len(rows) == _ROWS_AT_ONCE:
            yield Replayed(tuple(rows), None, after)
            rows = []
    if last_row is not None:
        raise _contradiction(
            last_row,
            f"row {uniques - 1} is the end, and no trailer follows it, although every commit ends with one",
        )


@dataclass(frozen=True, slots=True)
class Recovered:
    """The result of a whole replay: vectors (n, k) float32 and events in sequence order, up to `position`."""

    vectors: NDArray[np.float32]
    events: tuple[Mapping[str, Any], ...]
    position: ChangelogPosition


def rebuild(entries: Iterable[tuple[ChangelogPosition, ChangelogRow | Trailer]]) -> Recovered:
    """Replay all of a changelog and keep it; memory grows with the rows. Raises as `replay`."""
    rows: list[ChangelogRow] = []
    position = BEGINNING.position
    for part in replay(BEGINNING, entries):
        rows += part.rows
        position = part.position
    vectors = np.stack([row.vector for row in rows]) if rows else np.empty((0, 0), dtype=np.float32)
    return Recovered(vectors, tuple(row.event for row in rows), position)


def _require_fit(position: ChangelogPosition, trailer: Trailer, uniques: int, checksum: str) -> None:
    if trailer.uniques != uniques:
        raise _contradiction(
            position, f"the trailer counts {trailer.uniques} rows, the changelog holds {uniques} up to there"
        )
    if trailer.checksum != checksum:
        raise _contradiction(
            position,
            f"the trailer's checksum over {uniques} rows is {trailer.checksum}, the rows give {checksum}: at least one "
            "was changed",
        )


def _contradiction(position: ChangelogPosition, found: str) -> ChangelogError:
    return ChangelogError(
        f"changelog position {position}: {found}; the changelog was changed by something other than this daemon, or "
        f"belongs to another one; restore it, or {NEW_LIST}"
    )
