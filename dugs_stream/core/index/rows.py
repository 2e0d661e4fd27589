"""Append-only storage of float32 rows in parts, so that growing never copies the whole list.

A part is memory, or a file that is mapped and whose checksums are verified where it is first used (`core.index.mapped`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from dugs_stream.core.index.mapped import MappedRows
from dugs_stream.core.index.parallel import in_stripes

# One segment is also one file of the state folder: at k = 2048 it holds 512 MiB, few enough files for tens of
# millions of rows, and small enough to be refilled alone when its file is damaged.
SEGMENT_ROWS = 65_536

# The first segment starts this small, so that the short lists of τ = 0.3 cost next to nothing.
_FIRST_CAPACITY = 256


@dataclass(slots=True)
class _Part:
    """Rows start … start + used − 1 of the list; a memory part may have room for more."""

    start: int
    used: int
    rows: NDArray[np.float32] | MappedRows

    def view(self, start: int, stop: int) -> NDArray[np.float32]:
        """Rows start … stop − 1 of the list, all of them here; read-only."""
        first, last = start - self.start, stop - self.start
        if isinstance(self.rows, MappedRows):
            return self.rows.verified(first, last)
        view = self.rows[first:last]
        view.flags.writeable = False
        return view

    @property
    def place(self) -> tuple[int, int, int, int]:
        """A line of `Rows.addresses`."""
        if isinstance(self.rows, MappedRows):
            return (self.start, *self.rows.addresses)
        return self.start, self.rows.ctypes.data, 0, 1

    def take(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """A copy of the rows at `positions` of the list, all of them here."""
        offsets = positions - self.start
        rows = self.rows.verified_at(offsets) if isinstance(self.rows, MappedRows) else self.rows
        return rows[offsets]


class Rows:
    """(n, k) float32 rows in order of arrival; append-only.

    Memory is taken a segment at a time: the first one doubles until it holds SEGMENT_ROWS, every later one has its whole
    address space from the start, of which only what is written becomes memory. So no row is copied after the first
    segment is full, and adding costs the new rows.
    """

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self._parts: list[_Part] = []
        self._starts = np.empty(0, dtype=np.int64)
        self._count = 0
        self._addresses: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return self._count

    @property
    def memory_bytes(self) -> int:
        """Bytes of the rows in memory; mapped files are not counted."""
        used = sum(part.used for part in self._parts if not isinstance(part.rows, MappedRows))
        return used * self.dimension * 4

    @property
    def mapped_bytes(self) -> int:
        """Bytes of the rows in mapped files, of which the system keeps in memory what is used and fits."""
        return self._count * self.dimension * 4 - self.memory_bytes

    def add(self, vectors: NDArray[np.float32]) -> None:
        """Append (n, k) float32 rows; they are copied."""
        taken = 0
        while taken < len(vectors):
            room = min(SEGMENT_ROWS - self._count % SEGMENT_ROWS, len(vectors) - taken)
            part = self._part_with_room(room)
            assert isinstance(part.rows, np.ndarray)  # noqa: S101 -- memory, as only such parts have room
            target = part.rows[part.used : part.used + room]
            # On threads: most of the time goes into first touches of memory, or into reading a file.
            in_stripes(room, partial(_copy, vectors[taken : taken + room], target))
            part.used += room
            self._count += room
            taken += room

    def map(self, mapped: MappedRows) -> None:
        """Append the rows of a file without reading them."""
        if mapped.dimension != self.dimension:
            raise ValueError(
                f"{mapped.name} has rows of {mapped.dimension} numbers, expected {self.dimension}"
            )
        self._append_part(_Part(self._count, len(mapped), mapped))
        self._count += len(mapped)

    def _part_with_room(self, needed: int) -> _Part:
        last = self._parts[-1] if self._parts else None
        in_memory = last is not None and isinstance(last.rows, np.ndarray) and self._count % SEGMENT_ROWS
        if last is None or not in_memory:
            capacity = SEGMENT_ROWS - self._count % SEGMENT_ROWS
            first = min(capacity, max(_FIRST_CAPACITY, 1 << (needed - 1).bit_length()))
            rows = np.empty((capacity if self._count else first, self.dimension), dtype=np.float32)
            return self._append_part(_Part(self._count, 0, rows))
        if len(last.rows) < last.used + needed:
            # The next power of two, within the bounds of a segment.
            capacity = min(1 << (last.used + needed - 1).bit_length(), SEGMENT_ROWS)
            grown = np.empty((capacity, self.dimension), dtype=np.float32)
            grown[: last.used] = last.view(last.start, last.start + last.used)
            last.rows, self._addresses = grown, None
        return last

    def _append_part(self, part: _Part) -> _Part:
        self._parts.append(part)
        self._starts = np.append(self._starts, part.start)
        self._addresses = None
        return part

    def blocks(
        self, block_rows: int, start: int = 0, stop: int | None = None
    ) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Read-only views of the rows start … stop in order, each with the number of its first row.

        A block holds at most `block_rows` rows and never spans two segments, nor a mapped file and memory. Here and in
        `take`, `view` and `all` DamagedRowsError is raised for mapped rows that are not what was written.
        """
        stop = self._count if stop is None else min(stop, self._count)
        while start < stop:
            part = self._parts[self._part_of(start)]
            end = min(start + block_rows, stop, part.start + part.used)
            yield start, part.view(start, end)
            start = end

    def spans(self) -> list[tuple[int, int]]:
        """First row and end of each part: what `view` shows of one part is never copied."""
        return [(part.start, part.start + part.used) for part in self._parts]

    def addresses(self) -> NDArray[np.int64]:
        """Where the rows lie in memory, for native code: (parts, 4) int64, by first row.

        First row, address of it, address of the flags that say which blocks of a mapped file are verified (0: memory), rows of a
        block. No row of an unverified block may be read there. Valid until rows are appended.
        """
        if self._addresses is None:
            places = [part.place for part in self._parts]
            self._addresses = np.array(places, dtype=np.int64).reshape(-1, 4)
        return self._addresses

    def _part_of(self, position: int) -> int:
        return int(np.searchsorted(self._starts, position, side="right")) - 1

    def take(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """A copy of the rows at `positions` (p,) → (p, k) float32."""
        if len(self._parts) == 1:
            return self._parts[0].take(positions)
        taken = np.empty((len(positions), self.dimension), dtype=np.float32)
        numbers = np.searchsorted(self._starts, positions, side="right") - 1
        for number in np.unique(numbers):
            here = numbers == number
            taken[here] = self._parts[number].take(positions[here])
        return taken

    def view(self, start: int, stop: int, touched: NDArray[np.int64]) -> NDArray[np.float32]:
        """Rows start … stop − 1 (stop − start, k), of which only those at the positions `touched` may be read.

        A view within one part; where several parts meet, a copy of the touched rows with nothing in between.
        """
        part = self._parts[self._part_of(start)]
        if stop > part.start + part.used:
            sparse = np.empty((stop - start, self.dimension), dtype=np.float32)
            each = np.unique(touched)
            sparse[each - start] = self.take(each)
            return sparse
        if isinstance(part.rows, MappedRows):
            return part.rows.verified_at(touched - part.start)[start - part.start : stop - part.start]
        return part.view(start, stop)

    def all(self) -> NDArray[np.float32]:
        """All rows (n, k), read-only: a view while one segment holds them, else a copy."""
        views = [view for _, view in self.blocks(SEGMENT_ROWS)]
        if len(views) == 1:
            return views[0]
        joined = np.concatenate(views) if views else np.empty((0, self.dimension), dtype=np.float32)
        joined.flags.writeable = False
        return joined

    def verify_ahead(self, most_bytes: int) -> int:
        """Verify mapped rows that nothing has used yet until so many bytes are; the number of bytes that were."""
        taken = 0
        for part in self._parts:
            if taken < most_bytes and isinstance(part.rows, MappedRows):
                taken += part.rows.verify_ahead(most_bytes - taken)
        return taken


def _copy(rows: NDArray[np.float32], target: NDArray[np.float32], stripe: slice) -> None:
    target[stripe] = rows[stripe]
