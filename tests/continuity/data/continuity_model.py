"""A small classifier of digits whose weights lie beside it; dugs.yaml names it as `continuity_model:build`."""

from __future__ import annotations

from torch import nn

__all__ = ["build"]


def build(width: int = 24, classes: int = 10) -> nn.Module:
    """One convolution, one pool, two Linear layers over 1×28×28; knows its input shape."""
    model = nn.Sequential(
        nn.Conv2d(1, 6, 5, stride=2, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(6 * 7 * 7, width),
        nn.ReLU(inplace=True),
        nn.Linear(width, classes),
    )
    model.input_shape = (1, 28, 28)  # type: ignore[assignment]  # an attribute that is no module
    return model
