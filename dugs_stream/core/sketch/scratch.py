"""Memory for what lives only within one step, kept from step to step.

A fresh block of some megabytes is mapped and zeroed by the operating system each time, which takes as long as to fill it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


class Scratch:
    """One block for each use, as large as the largest that was asked for. For one thread at a time."""

    def __init__(self) -> None:
        self._blocks: dict[tuple[str, torch.dtype], Tensor] = {}
        self._lent: dict[tuple[str, torch.dtype], Tensor] = {}

    def take(self, use: str, like: Tensor, *shape: int) -> Tensor:
        """Uninitialised numbers of this shape, in dtype and device of `like`; valid until the next call for that use."""
        numbers = torch.Size(shape).numel()
        block = self._blocks.get((use, like.dtype))
        if block is None or len(block) < numbers or block.device != like.device:
            block = self._blocks[use, like.dtype] = like.new_empty(numbers)
        return block[:numbers].view(shape)

    def lend(
        self, use: str, shape: Sequence[int], *, dtype: torch.dtype, memory_format: torch.memory_format
    ) -> Tensor:
        """The same on the CPU, in a tensor of its own: a model may write into it, which autograd forbids in a part of another."""
        like = torch.empty(shape, dtype=dtype, memory_format=memory_format, device="meta")
        block = self._lent.get((use, dtype))
        if block is None or len(block) < like.numel():
            block = self._lent[use, dtype] = torch.empty(like.numel(), dtype=dtype)
        return torch.empty(0, dtype=dtype).set_(block.untyped_storage(), 0, like.shape, like.stride())
