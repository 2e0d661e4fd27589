"""Vector files: append-only files of 65 536 rows, each with a checksum.

Rows beyond what a snapshot covers may be torn; they are never read, and are overwritten. A failed write changes
nothing that a snapshot covers.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dugs_stream.core.index.files import ROW_DTYPE, map_rows, replace_file, sync_folder
from dugs_stream.core.index.rows import SEGMENT_ROWS
from dugs_stream.errors import StateError
from dugs_stream.records import ChangelogPosition, ChangelogRow

# 8 MiB: checking a file of vectors must not fill the memory that the index needs.
_PIECE_BYTES = 2**23
# A core hashes about 1.5 GB/s, so four files at once read as much as a fast disk delivers.
_CHECKED_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Segment:
    """The first `rows` rows of one file.

    changelog_start  a position in the changelog before the first of them; reading from there finds them all
    """

    number: int
    rows: int
    sha256: str
    changelog_start: ChangelogPosition

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
        self._digest = hashlib.sha256()  # of the last segment's rows so far

    @property
    def rows(self) -> int:
        """The number of rows that are durable on disk."""
        return self._segments[-1].stop if self._segments else 0

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The facts of the files that a snapshot keeps."""
        return tuple(self._segments)

    def open(self, segments: Sequence[Segment]) -> tuple[Segment, ...]:
        """Open the files that a snapshot names; returns the damaged ones.

        Costs one reading of all rows.
        """
        self._segments = list(segments)
        with ThreadPoolExecutor(_CHECKED_AT_ONCE) as threads:
            digests = list(threads.map(self._digest_of, segments))
        if digests and digests[-1] is not None:
            self._digest = digests[-1]
        return tuple(segment for segment, digest in zip(segments, digests, strict=True) if digest is None)

    def _digest_of(self, segment: Segment) -> hashlib._Hash | None:
        digest, left = hashlib.sha256(), segment.rows * self._row_bytes
        try:
            with (self._folder / segment.file).open("rb") as file:
                while left and (piece := file.read(min(left, _PIECE_BYTES))):
                    digest.update(piece)
                    left -= len(piece)
        except OSError:
            return None
        return digest if left == 0 and digest.hexdigest() == segment.sha256 else None

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
        digest = hashlib.sha256() if used == 0 else self._digest.copy()
        digest.update(content.data)
        if used == 0:
            segment = Segment(len(self._segments), len(vectors), digest.hexdigest(), changelog_start)
        else:
            segment = replace(self._segments[-1], rows=used + len(vectors), sha256=digest.hexdigest())
        self._write(self._folder / segment.file, content.data.cast("B"), used * self._row_bytes)
        self._segments[segment.number :] = [segment]
        self._digest = digest

    @staticmethod
    def _write(path: Path, content: memoryview, place: int) -> None:
        """Write at `place`, over what a failed append left there; what it left after that is never read."""
        is_new = not path.exists()
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while content:
                written = os.pwrite(handle, content, place)
                place, content = place + written, content[written:]
            os.fsync(handle)
        finally:
            os.close(handle)
        if is_new:
            sync_folder(path.parent)

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """All rows in sequence order: a read-only memory map (≤ 65 536, k) float32 for each file."""
        for segment in self._segments:
            yield map_rows(self._folder / segment.file, segment.rows, self._dimension)

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
