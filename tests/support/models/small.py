"""Small models that tests name in configurations: `tests.support.models.small:tiny`."""

from __future__ import annotations

import time
from threading import Event

import torch
from torch import Tensor, nn

WIDTH = 16
"""Numbers in one input of these models."""


def tiny(width: int = WIDTH, classes: int = 4) -> nn.Module:
    """Two Linear layers with an in-place activation between them; knows its input shape."""
    model = nn.Sequential(nn.Linear(width, 12), nn.ReLU(inplace=True), nn.Linear(12, classes))
    model.input_shape = (width,)  # type: ignore[assignment]
    return model


class BreaksOn(nn.Module):
    """Raises as soon as any sample of the batch holds a number above `limit`."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.inner = tiny()
        self.limit = limit

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits, or the error."""
        if bool((inputs > self.limit).any()):
            raise RuntimeError(f"a number above {self.limit}")
        logits: Tensor = self.inner(inputs)
        return logits


def breaks_on_large(limit: float = 1000.0) -> nn.Module:
    """A model that fails on some records and knows no input shape."""
    return BreaksOn(limit)


class MixesSamples(nn.Module):
    """Subtracts the batch's mean: a sample's gradient would depend on its company."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs less their mean over the batch."""
        return inputs - inputs.mean(0, keepdim=True)


def mixes_samples() -> nn.Module:
    """A model that must be refused, with the layer `1` to be named."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(WIDTH, 12), MixesSamples(), nn.Linear(12, 4))


class Slow(nn.Module):
    """Takes its time for each tile, as a large model on a small machine does."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.inner = tiny()
        self.seconds = seconds

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits, late."""
        time.sleep(self.seconds)
        logits: Tensor = self.inner(inputs)
        return logits


def slow(seconds: float = 0.5) -> nn.Module:
    """A model that knows its shape and takes `seconds` a tile."""
    model = Slow(seconds)
    model.input_shape = (WIDTH,)  # type: ignore[assignment]
    return model


class Gated(nn.Module):
    """Waits at a gate as long as it is shut, as a call into a device that hangs does."""

    is_open = Event()
    is_waiting = Event()

    def __init__(self) -> None:
        super().__init__()
        self.inner = tiny()

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits, once the gate is open."""
        if not self.is_open.is_set():
            self.is_waiting.set()
            self.is_open.wait()
        logits: Tensor = self.inner(inputs)
        return logits


def gated() -> nn.Module:
    """A model that knows its shape and passes only while `Gated.is_open` is set."""
    model = Gated()
    model.input_shape = (WIDTH,)  # type: ignore[assignment]
    return model
