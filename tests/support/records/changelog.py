"""A changelog in memory, written batch by batch as the daemon writes the real one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from dugs_stream.changelog.checksum import NO_ROWS, chain
from dugs_stream.changelog.replay import replay
from dugs_stream.core.index.unique_index import UniqueIndex
from dugs_stream.records import ChangelogPosition, ChangelogRow, SequenceNumber, Trailer
from dugs_stream.state.files import LoadedState
from dugs_stream.state.store import SnapshotResult, StateStore
from tests.support.oracles.unit_rows import unit_rows

FINGERPRINT = "sha256:ours"


class Changelog:
    """Entries (position, row or trailer); `commit` appends one batch."""

    def __init__(self, dimension: int = 8, seed: int = 0) -> None:
        self.dimension = dimension
        self.entries: list[tuple[ChangelogPosition, ChangelogRow | Trailer]] = []
        self.rows: list[ChangelogRow] = []
        self._checksum = NO_ROWS
        self._seed = seed

    @classmethod
    def of(cls, *batches: int, dimension: int = 8, seed: int = 0) -> Changelog:
        """One with batches of so many rows."""
        changelog = cls(dimension, seed)
        for rows in batches:
            changelog.commit(rows)
        return changelog

    def commit(self, rows: int) -> None:
        """A batch of `rows` uniques and its trailer."""
        for vector in unit_rows(self._seed * 1_000_003 + len(self.entries), rows, self.dimension):
            number = len(self.rows)
            event = {
                "id": f"samples/0/{2 * number}",
                "sequence": number,
                "similarity": 0.1 / (number + 1),
                "name": "é",
            }
            row = ChangelogRow(SequenceNumber(number), event, vector)
            self._checksum = chain(self._checksum, row)
            self.rows.append(row)
            self._append(row)
        count = len(self.rows)
        self._append(
            Trailer(
                uniques=count,
                checksum=self._checksum,
                next_offsets={0: 2 * count, 3: 5},
                batch_ranges={0: (0, 2 * count)},
                fingerprint=FINGERPRINT,
                threshold=0.3,
                min_gradient_norm=0.0,
                input_topic="samples",
                input_topic_id="id-1",
                group="dugs",
            )
        )

    def _append(self, entry: ChangelogRow | Trailer) -> None:
        self.entries.append((self.end, entry))

    def compact(self) -> None:
        """Drop all trailers but the last, as compaction does; positions stay."""
        trailers = [entry for entry in self.entries if isinstance(entry[1], Trailer)]
        self.entries = [entry for entry in self.entries if entry not in trailers[:-1]]

    def after(self, position: int) -> list[tuple[ChangelogPosition, ChangelogRow | Trailer]]:
        """The entries from `position` on."""
        return [entry for entry in self.entries if entry[0] >= position]

    @property
    def end(self) -> ChangelogPosition:
        """The position after the last entry."""
        return ChangelogPosition(self.entries[-1][0] + 1 if self.entries else 0)

    @property
    def trailer(self) -> Trailer:
        """The last entry, a trailer."""
        last = self.entries[-1][1]
        assert isinstance(last, Trailer)
        return last

    @property
    def vectors(self) -> np.ndarray:
        """All rows' vectors (n, k)."""
        return np.array([row.vector for row in self.rows], dtype=np.float32).reshape(-1, self.dimension)

    def until(self, position: int) -> Changelog:
        """The same changelog before `position`."""
        shorter = Changelog(self.dimension)
        shorter.entries = self.entries[:position]
        shorter.rows = [entry for _, entry in shorter.entries if isinstance(entry, ChangelogRow)]
        return shorter

    def changed(self, position: int, **fields: object) -> Changelog:
        """The same changelog with fields of one entry replaced."""
        other = self.until(len(self.entries))
        at, entry = other.entries[position]
        other.entries[position] = (at, replace(entry, **fields))  # type: ignore[arg-type]  # a row or a trailer
        return other.until(len(other.entries))


@contextmanager
def opened(
    path: Path, dimension: int = 8, fingerprint: str | None = FINGERPRINT, *, verify: bool = False
) -> Iterator[tuple[StateStore, LoadedState]]:
    """The state in a folder, and what opening found there; closed afterwards."""
    store = StateStore(path, fingerprint=fingerprint, dimension=dimension)
    loaded = store.open(verify=verify)
    try:
        yield store, loaded
    finally:
        store.close()


def recover(store: StateStore, changelog: Changelog) -> UniqueIndex:
    """What the daemon does after `store.open`: fill an index from the folder, then replay the rest."""
    index = UniqueIndex(changelog.dimension)
    for rows in store.files.vectors.mapped():
        index.take_mapped(rows)
    start = store.head
    for part in replay(start, changelog.after(start.position), FINGERPRINT):
        index.add(
            np.array([row.vector for row in part.rows], dtype=np.float32).reshape(-1, changelog.dimension)
        )
        store.apply(part.rows, part.trailer, part.position)
    return index


def written(store: StateStore, index: UniqueIndex, *, with_graph: bool = False) -> SnapshotResult:
    """A snapshot that had something to write."""
    result = store.snapshot(index, with_graph=with_graph)
    assert result is not None
    return result
