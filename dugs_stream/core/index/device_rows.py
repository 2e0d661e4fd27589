"""Rows of a list on a device: in low precision, and as float32 too while memory is plentiful.

They are kept in chunks, each an eighth of what is there, so growing copies nothing and wastes little. All of it is made from the list's own
rows, and made again at a restart; nothing is stored.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from dugs_stream.core.index.device_memory import require_room
from dugs_stream.core.index.low_precision import (
    Format,
    LowQueries,
    arithmetic_of,
    bfloat_products,
    round_queries,
    round_rows,
)
from dugs_stream.core.index.products import tensor_of
from dugs_stream.core.index.rows import Rows

STRIP = 64
"""Rows whose greatest product is looked at first: 64 products cost as much to read as one row of them."""

_CHUNK_BYTES = 2**26
_GROWTH = 8
# float64 of so many rows of k = 2 048 are 64 MiB.
_ROWS_AT_ONCE = 4_096
# The last level of cache of a GPU holds so many float32 products, that of a core a quarter of it.
_PRODUCTS_AT_ONCE = {"cuda": 2**23}
_PRODUCTS_ELSEWHERE = 2**21
# As float32 for as long as half of the memory stays free.
_KEPT_FREE_OF_FULL = 1 / 2


@dataclass(slots=True)
class Chunk:
    """Rows start … start + used − 1 of the list, and room for more; the room is a multiple of STRIP.

    numbers, scales, slack  as in `LowRows`
    strip_slack             (strips,) float32, the greatest slack of each strip
    full                    (room, k) float32, None where memory is short
    """

    start: int
    used: int
    numbers: Tensor
    scales: Tensor | None
    slack: Tensor
    strip_slack: Tensor
    full: Tensor | None

    @property
    def strips(self) -> int:
        """Strips in use; the last may be short."""
        return -(-self.used // STRIP)

    @property
    def bytes(self) -> int:
        """Memory it takes."""
        parts = (self.numbers, self.scales, self.slack, self.strip_slack, self.full)
        return sum(part.nbytes for part in parts if part is not None)


class DeviceRows:
    """The first rows of a list on a device; append-only.

    Memory: about 2·k + 8 bytes a row for bf16, k + 12 for int8, and 4·k more while the float32 rows lie there too.
    """

    def __init__(
        self, dimension: int, device: torch.device, kind: Format, *, keeps_full: bool = True
    ) -> None:
        self.dimension, self.device, self.kind = dimension, device, kind
        self.arithmetic = arithmetic_of(device, dimension)
        self.keeps_full = keeps_full
        self.chunks: list[Chunk] = []
        self._count = self._turns = 0

    def __len__(self) -> int:
        return self._count

    @property
    def bytes(self) -> int:
        """Memory on the device."""
        return sum(chunk.bytes for chunk in self.chunks)

    def follow(self, rows: Rows, at_most: int) -> None:
        """Append rows of the list that are not here yet, `at_most` of them.

        Raises an error that says that memory ran out (`core.gradients.memory`) and DamagedRowsError; what was appended stays.
        """
        stop = min(len(rows), self._count + at_most)
        while self._count < stop:
            chunk = self._chunk_with_room()
            room = len(chunk.slack) - chunk.used
            _, block = next(rows.blocks(min(_ROWS_AT_ONCE, room), self._count, stop))
            self._append(chunk, tensor_of(block).to(self.device))

    def next_turn(self) -> int:
        """0, 1, 2, … from call to call."""
        self._turns += 1
        return self._turns - 1

    def drop_full(self) -> bool:
        """Keep no float32 rows from now on; whether there were any."""
        held = any(chunk.full is not None for chunk in self.chunks)
        self.keeps_full = False
        for chunk in self.chunks:
            chunk.full = None
        return held

    def _chunk_with_room(self) -> Chunk:
        if not self.chunks or self.chunks[-1].used == len(self.chunks[-1].slack):
            low_bytes = self.dimension * (2 if self.kind == "bf16" else 1)
            least = max(STRIP, 1 << (_CHUNK_BYTES // low_bytes).bit_length() - 1)
            self.chunks.append(self._allocated(max(least, self._count // _GROWTH // STRIP * STRIP)))
        return self.chunks[-1]

    def _allocated(self, rows: int) -> Chunk:
        is_int8 = self.kind == "int8"
        low_bytes = rows * self.dimension * (1 if is_int8 else 2)
        require_room(low_bytes, self.device)
        full = None
        if self.keeps_full:
            try:
                require_room(low_bytes + 4 * rows * self.dimension, self.device, _KEPT_FREE_OF_FULL)
                full = self._empty((rows, self.dimension), torch.float32)
            except MemoryError:
                self.drop_full()
        return Chunk(
            start=self._count,
            used=0,
            numbers=self._empty((rows, self.dimension), torch.int8 if is_int8 else torch.bfloat16),
            scales=self._empty((rows,), torch.float32) if is_int8 else None,
            slack=torch.zeros(rows, dtype=torch.float32, device=self.device),
            strip_slack=torch.zeros(rows // STRIP, dtype=torch.float32, device=self.device),
            full=full,
        )

    def _empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=self.device)

    def _append(self, chunk: Chunk, rows: Tensor) -> None:
        low = round_rows(rows, self.kind, self.arithmetic)
        place = slice(chunk.used, chunk.used + len(rows))
        chunk.numbers[place], chunk.slack[place] = low.numbers, low.slack
        if chunk.scales is not None and low.scales is not None:
            chunk.scales[place] = low.scales
        if chunk.full is not None:
            chunk.full[place] = rows
        first, end = place.start // STRIP, -(-place.stop // STRIP)
        chunk.strip_slack[first:end] = chunk.slack[first * STRIP : end * STRIP].view(-1, STRIP).amax(dim=1)
        chunk.used += len(rows)
        self._count += len(rows)

    def rounded(self, queries: NDArray[np.float32]) -> LowQueries:
        """Queries (m, k) float32 unit rows on the device, in bf16 and as they are."""
        return round_queries(tensor_of(queries).to(self.device), self.arithmetic)

    def spans(self, most_strips: int) -> Iterator[list[Chunk]]:
        """All chunks in order, as many together as have so many strips, but one at least."""
        span: list[Chunk] = []
        for chunk in self.chunks:
            if span and sum(each.strips for each in span) + chunk.strips > most_strips:
                yield span
                span = []
            span.append(chunk)
        if span:
            yield span

    def strip_peaks(self, queries: Tensor, chunk: Chunk) -> Tensor:
        """The greatest product of each query (m, k) bf16 with each strip of the chunk → (m, strips) float32."""
        products_at_once = _PRODUCTS_AT_ONCE.get(self.device.type, _PRODUCTS_ELSEWHERE)
        step = max(1, products_at_once // max(1, len(queries)) // STRIP) * STRIP
        peaks = []
        for start in range(0, chunk.used, step):
            place = slice(start, min(start + step, chunk.used))
            products = bfloat_products(queries, chunk.numbers[place].bfloat16())
            if chunk.scales is not None:
                products *= chunk.scales[place]
            if missing := -products.shape[1] % STRIP:
                products = functional.pad(products, (0, missing), value=-torch.inf)
            peaks.append(products.view(len(queries), -1, STRIP).amax(dim=2))
        return torch.cat(peaks, dim=1)

    def strip_products(self, queries: Tensor, chunk: Chunk, strip: Tensor) -> tuple[Tensor, Tensor]:
        """Query i (p, k) bf16 with each row of strip[i] of the chunk, by another sum: products and slack, (p, STRIP) float32.

        What lies behind the last row has −inf. bf16 numbers fit into TF32, so no setting of the process matters.
        """
        numbers = chunk.numbers.view(-1, STRIP, self.dimension)[strip].float()  # (p, STRIP, k)
        products = torch.bmm(numbers, queries.float()[:, :, None]).squeeze(2)
        if chunk.scales is not None:
            products *= chunk.scales.view(-1, STRIP)[strip]
        row = strip[:, None] * STRIP + torch.arange(STRIP, device=self.device)
        products.masked_fill_(row >= chunk.used, -torch.inf)
        return products, chunk.slack.view(-1, STRIP)[strip]

    def full_products(self, queries: Tensor, chunk: Chunk, row: Tensor) -> Tensor:
        """Query i (p, k) float32 with row row[i] of the chunk in float64, (p,); the chunk has its float32 rows."""
        assert chunk.full is not None  # noqa: S101 -- the caller has looked
        return chunk.full[row].double().mul_(queries).sum(dim=1)
