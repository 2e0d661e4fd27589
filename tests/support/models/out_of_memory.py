"""A model whose memory runs out when a test says so: `tests.support.models.out_of_memory:tiny_at_the_limit`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.support.models.small import WIDTH, tiny


class Memory:
    """How many of the next forward passes do not fit, and what is raised then."""

    failures = 0
    error: type[Exception] = RuntimeError


MEMORY = Memory()
"""Told by a test while the daemon lives; a model is built by a factory that cannot be told more."""


class AtTheLimit(nn.Module):
    """`tiny`, on a machine with too little memory."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = tiny()

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits, or no room for them."""
        if MEMORY.failures > 0:
            MEMORY.failures -= 1
            raise MEMORY.error("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8")
        logits: Tensor = self.inner(inputs)
        return logits


def tiny_at_the_limit() -> nn.Module:
    """A model that knows its input shape."""
    torch.manual_seed(0)
    model = AtTheLimit()
    model.input_shape = (WIDTH,)  # type: ignore[assignment]
    return model
