"""Append-only storage of float32 rows in segments, so that growing never copies the whole list."""

from collections.abc import Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

from dugs_stream.core.index.parallel import in_stripes

# One segment is also one file of the state folder: at k = 2048 it holds 512 MiB, few enough files for tens of
# millions of rows, and small enough to be refilled alone when its file is damaged.
SEGMENT_ROWS = 65_536

# The first segment starts this small, so that the short lists of τ = 0.3 cost next to nothing.
_FIRST_CAPACITY = 256


class Rows:
    """(n, k) float32 rows in order of arrival; append-only.

    The last segment doubles until it holds SEGMENT_ROWS; full segments never move again. So adding copies
    each row a constant number of times, and never more than one segment at once.
    """

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self._segments: list[NDArray[np.float32]] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, vectors: NDArray[np.float32]) -> None:
        """Append (n, k) float32 rows; they are copied."""
        taken = 0
        while taken < len(vectors):
            used = self._count % SEGMENT_ROWS
            room = min(SEGMENT_ROWS - used, len(vectors) - taken)
            target = self._segment_with_room(used, used + room)[used : used + room]
            # On threads: most of the time goes into first touches of memory, or into reading a file.
            in_stripes(room, partial(_copy, vectors[taken : taken + room], target))
            self._count += room
            taken += room

    def _segment_with_room(self, used: int, needed: int) -> NDArray[np.float32]:
        if used and len(self._segments[-1]) >= needed:
            return self._segments[-1]
        # The next power of two, within the bounds of a segment.
        capacity = min(max(_FIRST_CAPACITY, 1 << (needed - 1).bit_length()), SEGMENT_ROWS)
        grown = np.empty((capacity, self.dimension), dtype=np.float32)
        if used:
            grown[:used] = self._segments.pop()[:used]
        self._segments.append(grown)
        return grown

    def blocks(
        self, block_rows: int, start: int = 0, stop: int | None = None
    ) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Read-only views of the rows start … stop in order, each with the number of its first row.

        A block holds at most `block_rows` rows and never spans two segments.
        """
        stop = self._count if stop is None else min(stop, self._count)
        while start < stop:
            number, offset = divmod(start, SEGMENT_ROWS)
            end = min(offset + block_rows, SEGMENT_ROWS, offset + stop - start)
            view = self._segments[number][offset:end]
            view.flags.writeable = False
            yield start, view
            start += end - offset

    def view(
        self,
        start: int,
        stop: int,
        touched: NDArray[np.int64] | None = None,  # noqa: ARG002 - for rows that are checked when first read
    ) -> NDArray[np.float32]:
        """Read-only view of the rows start … stop − 1, all of one segment.

        touched  the only ones of them that will be read, counted from `start`; None: all
        """
        number, offset = divmod(start, SEGMENT_ROWS)
        view = self._segments[number][offset : offset + stop - start]
        view.flags.writeable = False
        return view

    def take(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """A copy of the rows at `positions` (p,) → (p, k) float32."""
        taken = np.empty((len(positions), self.dimension), dtype=np.float32)
        numbers, offsets = np.divmod(positions, SEGMENT_ROWS)
        for number in np.unique(numbers):
            here = numbers == number
            taken[here] = self._segments[number][offsets[here]]
        return taken

    def all(self) -> NDArray[np.float32]:
        """All rows (n, k), read-only: a view while one segment holds them, else a copy."""
        views = [view for _, view in self.blocks(SEGMENT_ROWS)]
        if len(views) == 1:
            return views[0]
        joined = np.concatenate(views) if views else np.empty((0, self.dimension), dtype=np.float32)
        joined.flags.writeable = False
        return joined


def _copy(rows: NDArray[np.float32], target: NDArray[np.float32], stripe: slice) -> None:
    target[stripe] = rows[stripe]
