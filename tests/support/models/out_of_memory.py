"""A model that runs out of memory as often as it is told to: `tests.support.models.out_of_memory:hungry`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.support.models.small import WIDTH, tiny


class Appetite:
    """After how many forward passes memory runs out, and how often."""

    def __init__(self) -> None:
        self.passes_before = 0
        self.failures = 0
        self.error: type[Exception] = RuntimeError

    def feed(self) -> None:
        """Count a pass; raise where it is one that does not fit."""
        if self.passes_before > 0:
            self.passes_before -= 1
        elif self.failures > 0:
            self.failures -= 1
            raise self.error(
                "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8"
            )


APPETITE = Appetite()
"""Set by a test before the daemon lives; a model is built by a factory that cannot be told more."""


class Hungry(nn.Module):
    """`tiny`, on a machine with too little memory."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = tiny()

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits, or no room for them."""
        APPETITE.feed()
        logits: Tensor = self.inner(inputs)
        return logits


def hungry() -> nn.Module:
    """A model that knows its input shape."""
    torch.manual_seed(0)
    model = Hungry()
    model.input_shape = (WIDTH,)  # type: ignore[assignment]
    return model
