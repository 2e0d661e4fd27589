"""Memory-mapped rows whose checksums are verified block by block, when a block is first used.

A restart maps gigabytes in milliseconds, and reading all of them first only to verify them would cost seconds. So each block
of rows carries a SHA-256 of its own, and no number of a block is used before its block was verified: damage on
disk is noticed before it could change an answer. No I/O here but the page faults of the map.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dugs_stream.core.index.parallel import in_stripes
from dugs_stream.errors import DamagedRowsError

BLOCK_ROWS = 1_024
"""Rows behind one checksum: 2 MiB at k = 512, hashed in a millisecond and a half; a million rows have a thousand of them."""

# 128 bits of the SHA-256: damage is an accident, and half the characters halve what a manifest holds.
_DIGITS = 32
# Each stripe of blocks goes to a thread; a block is long beside that.
_BLOCKS_A_STRIPE = 2


class BlockDigests:
    """The checksums of rows as they are appended: one for each BLOCK_ROWS, the last for those there are."""

    def __init__(self, block_rows: int = BLOCK_ROWS) -> None:
        self.block_rows = block_rows
        self._full: tuple[str, ...] = ()
        self._block = hashlib.sha256()
        self._used = 0

    @property
    def digests(self) -> tuple[str, ...]:
        """Of all blocks, in order."""
        return (*self._full, self._block.hexdigest()[:_DIGITS]) if self._used else self._full

    def copy(self) -> "BlockDigests":
        """As of now; later rows change only one of the two."""
        other = BlockDigests(self.block_rows)
        other._full, other._block, other._used = self._full, self._block.copy(), self._used
        return other

    def skip(self, digests: Sequence[str]) -> None:
        """Go on behind full blocks with these digests."""
        self._full = tuple(digests)

    def update(self, rows: NDArray[np.float32]) -> None:
        """Append rows (n, k), C-contiguous."""
        taken = 0
        full = list(self._full)
        while taken < len(rows):
            part = rows[taken : taken + self.block_rows - self._used]
            self._block.update(part.data)
            self._used += len(part)
            taken += len(part)
            if self._used == self.block_rows:
                full.append(self._block.hexdigest()[:_DIGITS])
                self._block, self._used = hashlib.sha256(), 0
        self._full = tuple(full)


class MappedRows:
    """The rows of one file, read-only; `verified` gives them after their blocks were held against their checksums.

    rows        (n, k) float32, a memory map
    name        of the file, for errors
    digests     hexadecimal beginnings of the SHA-256 of each block in order, 32 digits at least
    block_rows  rows of each block but the last
    """

    def __init__(
        self, rows: NDArray[np.float32], name: str, digests: Sequence[str], block_rows: int = BLOCK_ROWS
    ) -> None:
        if len(digests) != -(-len(rows) // block_rows) or any(len(digest) < _DIGITS for digest in digests):
            raise ValueError(
                f"{name}: {len(digests)} checksums for {len(rows)} rows in blocks of {block_rows}"
            )
        self.name = name
        self._rows = rows
        self._digests = digests
        self._block_rows = block_rows
        self._is_verified = np.zeros(len(digests), dtype=bool)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def dimension(self) -> int:
        """k, the length of every row."""
        return int(self._rows.shape[1])

    @property
    def unverified_bytes(self) -> int:
        """Bytes of the blocks that nothing has used yet."""
        return sum(self._block(block).nbytes for block in self._unverified())

    @property
    def addresses(self) -> tuple[int, int, int]:
        """Of the rows, of the flags of their verified blocks (one byte each), and the rows of a block."""
        return self._rows.ctypes.data, self._is_verified.ctypes.data, self._block_rows

    def verified(self, start: int, stop: int) -> NDArray[np.float32]:
        """Rows start … stop − 1, a view. Raises DamagedRowsError if one of their blocks is not what was written."""
        self._verify(np.arange(start // self._block_rows, -(-stop // self._block_rows)))
        return self._rows[start:stop]

    def verified_at(self, offsets: NDArray[np.int64]) -> NDArray[np.float32]:
        """All rows, of which only those at `offsets` may be used: their blocks are verified, no others."""
        self._verify(np.unique(offsets // self._block_rows))
        return self._rows

    def verify_ahead(self, most_bytes: int) -> int:
        """Verify blocks that nothing has used until so many bytes are; the number of bytes that were."""
        taken, chosen = 0, []
        for block in self._unverified():
            if taken >= most_bytes:
                break
            taken += self._block(block).nbytes
            chosen.append(block)
        self._verify(np.array(chosen, dtype=np.int64))
        return taken

    def _unverified(self) -> list[int]:
        blocks: list[int] = np.flatnonzero(~self._is_verified).tolist()
        return blocks

    def _verify(self, blocks: NDArray[np.int64]) -> None:
        waiting = blocks[~self._is_verified[blocks]]
        if waiting.size:
            in_stripes(len(waiting), lambda stripe: self._verify_each(waiting[stripe]), _BLOCKS_A_STRIPE)

    def _verify_each(self, blocks: NDArray[np.int64]) -> None:
        for block in blocks:
            digest = hashlib.sha256(self._block(block).data).hexdigest()
            if not digest.startswith(self._digests[block]):
                start = int(block) * self._block_rows
                stop = min(start + self._block_rows, len(self))
                raise DamagedRowsError(self.name, start, stop)
            self._is_verified[block] = True

    def _block(self, block: int) -> NDArray[np.float32]:
        return self._rows[block * self._block_rows : (block + 1) * self._block_rows]
