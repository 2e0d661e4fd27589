"""Vector files: append-only files of 65 536 rows, each with a checksum, and one for each block of 1,024 rows.

Opening looks at sizes alone. Rows are mapped, and a block's checksum is verified when the block is first used. Rows
beyond what a snapshot covers may be torn; they are never read, and are overwritten. A failed write changes
nothing that a snapshot covers, nor anything that is mapped: a file only grows, or another one takes its name.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dugs_stream.core.index.files import ROW_DTYPE, map_rows, replace_file, write_at
from dugs_stream.core.index.mapped import BLOCK_ROWS, BlockDigests, MappedRows
from dugs_stream.core.index.rows import SEGMENT_ROWS
from dugs_stream.errors import DamagedRowsError, StateError
from dugs_stream.records import ChangelogPosition, ChangelogRow

# 8 MiB: checking a file of vectors must not fill the memory that the index needs.
_PIECE_BYTES = 2**23
# A core hashes about 1.5 GB/s, so four files at once read as much as a fast disk delivers.
_CHECKED_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Segment:
    """The first `rows` rows of one file.

    changelog_start  a position in the changelog before the first of them; reading from there finds them all
    blocks           the checksum of each BLOCK_ROWS of them; none in folders of earlier versions, whose files are verified whole
    """

    number: int
    rows: int
    sha256: str
    changelog_start: ChangelogPosition
    blocks: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        """Its name in the state folder."""
        return f"vectors-{self.number:05d}.f32"

    @property
    def start(self) -> int:
        """The sequence number of its first row."""
        return self.number * SEGMENT_ROWS

    @property
    def stop(self) -> int:
        """The sequence number after its last row."""
        return self.start + self.rows


class VectorFiles:
    """The vectors (n, k) float32 of uniques 0 … n − 1, in sequence order, in files of one folder."""

    def __init__(self, folder: Path, dimension: int) -> None:
        self._folder = folder
        self._row_bytes = dimension * ROW_DTYPE.itemsize
        self._dimension = dimension
        self._segments: list[Segment] = []
        self._written: _Written | None = (
            _Written.nothing()
        )  # of the last segment; None: not read since it was opened

    @property
    def rows(self) -> int:
        """The number of rows that are durable on disk."""
        return self._segments[-1].stop if self._segments else 0

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The facts of the files that a snapshot keeps."""
        return tuple(self._segments)

    def open(self, segments: Sequence[Segment], *, verify: bool = False) -> tuple[Segment, ...]:
        """Open the files that a snapshot names; returns those that are missing or too short.

        With `verify` also those with rows that are not the snapshot's, which costs one reading of all rows.
        """
        self._segments = list(segments)
        self._written = None if segments else _Written.nothing()
        if verify:
            return self._damaged()
        return tuple(segment for segment in segments if not self._is_long_enough(segment))

    def _is_long_enough(self, segment: Segment) -> bool:
        """A file that ended early would end the process at the first use of what is missing."""
        try:
            return (self._folder / segment.file).stat().st_size >= segment.rows * self._row_bytes
        except OSError:
            return False

    def _damaged(self) -> tuple[Segment, ...]:
        with ThreadPoolExecutor(_CHECKED_AT_ONCE) as threads:
            are_whole = list(threads.map(self._is_whole, self._segments))
        return tuple(
            segment for segment, is_whole in zip(self._segments, are_whole, strict=True) if not is_whole
        )

    def _is_whole(self, segment: Segment) -> bool:
        digest, left = hashlib.sha256(), segment.rows * self._row_bytes
        try:
            with (self._folder / segment.file).open("rb") as file:
                while left and (piece := file.read(min(left, _PIECE_BYTES))):
                    digest.update(piece)
                    left -= len(piece)
        except OSError:
            return False
        return left == 0 and digest.hexdigest() == segment.sha256

    def cut(self) -> None:
        """Remove everything after the rows: appends that no snapshot covers."""
        for path in self._folder.glob("vectors-*.f32"):
            covered = next((segment for segment in self._segments if segment.file == path.name), None)
            if covered is None:
                path.unlink()
            elif path.stat().st_size > covered.rows * self._row_bytes:
                os.truncate(path, covered.rows * self._row_bytes)

    def append(self, vectors: NDArray[np.float32], changelog_start: ChangelogPosition) -> None:
        """Add rows (n, k) after the last; durable on return. changelog_start is a position before the first of them.

        Raises OSError if the disk refuses; earlier rows stay as they were, and trying again is safe.
        """
        taken = 0
        while taken < len(vectors):
            used = self.rows % SEGMENT_ROWS
            part = vectors[taken : taken + SEGMENT_ROWS - used]
            self._append_to_segment(part, used, changelog_start)
            taken += len(part)

    def _append_to_segment(
        self, vectors: NDArray[np.float32], used: int, changelog_start: ChangelogPosition
    ) -> None:
        content = np.ascontiguousarray(vectors, dtype=ROW_DTYPE)
        written = _Written.nothing() if used == 0 else self._written_so_far().copy()
        written.update(content)
        number = len(self._segments) - (used > 0)
        start = changelog_start if used == 0 else self._segments[-1].changelog_start
        segment = Segment(
            number, used + len(vectors), written.whole.hexdigest(), start, written.blocks.digests
        )
        write_at(self._folder / segment.file, content.data.cast("B"), used * self._row_bytes)
        self._segments[number:] = [segment]
        self._written = written

    def _written_so_far(self) -> _Written:
        """The checksums to go on from: after opening, from one reading of the last file.

        Raises DamagedRowsError if that does not hold what the snapshot says.
        """
        if self._written is None:
            last, written = self._segments[-1], _Written.nothing()
            rows = self._map(last)
            for start in range(0, last.rows, BLOCK_ROWS):
                written.update(rows[start : start + BLOCK_ROWS])
            if written.whole.hexdigest() != last.sha256:
                raise DamagedRowsError(last.file, 0, last.rows)
            self._written = written
        return self._written

    def mapped(self) -> Iterator[MappedRows]:
        """All rows in sequence order, a file at a time, none of them read or verified yet."""
        for segment in self._segments:
            digests, block_rows = segment.blocks, BLOCK_ROWS
            if not digests:
                digests, block_rows = (segment.sha256,), segment.rows
            yield MappedRows(self._map(segment), segment.file, digests, block_rows)

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """All rows in sequence order, verified: a read-only memory map (≤ 65 536, k) float32 for each file.

        Raises DamagedRowsError for rows that are not those of the snapshot.
        """
        for rows in self.mapped():
            yield rows.verified(0, len(rows))

    def _map(self, segment: Segment) -> NDArray[np.float32]:
        return map_rows(self._folder / segment.file, segment.rows, self._dimension)

    def refill(self, segment: Segment, rows: Iterable[ChangelogRow]) -> None:
        """Write a damaged segment again from changelog rows in order; those before it are passed over.

        Reads no further than its last row. Raises StateError if the rows are not those of the snapshot.
        """
        path = self._folder / segment.file
        draft = path.with_name(path.name + ".part")
        expected, digest = segment.start, hashlib.sha256()
        with draft.open("wb") as file:
            for row in rows:
                if row.sequence == expected:
                    content = row.vector.astype(ROW_DTYPE, copy=False).tobytes()
                    file.write(content)
                    digest.update(content)
                    expected += 1
                if expected == segment.stop:
                    break
        if digest.hexdigest() != segment.sha256:
            draft.unlink()
            raise StateError(
                f"{path} is damaged and the changelog's rows {segment.start} to {segment.stop - 1} do not "
                f"restore it (got as far as {expected}, or other content); forget the folder with "
                "`dugs index reset` and start again: it is rebuilt from the changelog"
            )
        replace_file(draft, path)


@dataclass(frozen=True, slots=True)
class _Written:
    """The checksums of what one file holds: of all its rows, and of each block."""

    whole: hashlib._Hash
    blocks: BlockDigests

    @classmethod
    def nothing(cls) -> _Written:
        return cls(hashlib.sha256(), BlockDigests())

    def copy(self) -> _Written:
        return _Written(self.whole.copy(), self.blocks.copy())

    def update(self, rows: NDArray[np.float32]) -> None:
        self.whole.update(rows.data)
        self.blocks.update(rows)
