"""AlexNet for any image size: five convolutions and three Linear layers at full width.

From 63 pixels a side, the geometry is the original's (11×11 stride 4, overlapping 3×3 pools; 224 pixels give
256·6·6 features). That geometry leaves no features of a smaller image, so smaller ones get a 5×5 stem of stride 1
and 2×2 pools: 28 pixels give 256·3·3 features, about 28.7 million parameters with 10 classes. Widths, order and
in-place ReLUs are the same in both. More features than 6×6 are averaged down to 6×6, as the Linear layers expect.

Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014, arXiv 1404.5997 (the
one-tower variant with 64 filters in the first layer).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

_ORIGINAL_FROM = 63
"""Pixels of the shorter side from which the original geometry leaves at least one feature."""

_SMALLEST = 8
"""Pixels of the shorter side from which three 2×2 pools leave at least one feature."""

_MOST_FEATURES = 6
_WIDTH = 4096


class AlexNet(nn.Module):
    """Five convolutions (64, 192, 384, 256, 256), then Linear 4096, 4096, classes.

    forward: (n, channels, height, width) float32 → logits (n, classes). `input_shape` is (channels, height, width).
    """

    def __init__(self, height: int, width: int, channels: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.input_shape = (channels, height, width)
        self.features = _features(channels, is_small=min(height, width) < _ORIGINAL_FROM)
        rows, columns = self._feature_size(height, width)
        self.average = nn.AdaptiveAvgPool2d((rows, columns))
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(256 * rows * columns, _WIDTH),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(_WIDTH, _WIDTH),
            nn.ReLU(inplace=True),
            nn.Linear(_WIDTH, classes),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.average(self.features(images))  # (n, 256, rows, columns)
        logits: torch.Tensor = self.classifier(torch.flatten(features, 1))  # (n, classes)
        return logits

    def _feature_size(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of features, at most 6×6; from shapes alone, nothing is computed."""
        rows, columns = height, width
        for layer in self.features:
            if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
                rows, columns = (_after(layer, side, axis) for axis, side in enumerate((rows, columns)))
        return min(rows, _MOST_FEATURES), min(columns, _MOST_FEATURES)


def build(
    image_size: int | Sequence[int] = 28, channels: int = 3, classes: int = 10, dropout: float = 0.5
) -> AlexNet:
    """AlexNet for images of `image_size` pixels: one side of a square, or [height, width].

    Raises ValueError for sides below 8 pixels, and for channels or classes below 1.
    """
    sides = [image_size, image_size] if isinstance(image_size, int) else list(image_size)
    if len(sides) != 2 or min(sides) < _SMALLEST:  # noqa: PLR2004 (height and width)
        raise ValueError(
            f"image_size {image_size!r}: expected one side or [height, width], each of at least {_SMALLEST} pixels."
        )
    for name, number in (("channels", channels), ("classes", classes)):
        if number < 1:
            raise ValueError(f"{name} {number!r}: expected at least 1.")
    with torch.device("meta"):  # shapes only: the weights are drawn once, below
        model = AlexNet(sides[0], sides[1], channels, classes, dropout)
    model.to_empty(device="cpu")
    return model.apply(_initialise)


def _features(channels: int, *, is_small: bool) -> nn.Sequential:
    pool, stem = (2, _small_stem) if is_small else (3, _original_stem)
    return nn.Sequential(
        stem(channels),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(pool, stride=2),
        nn.Conv2d(64, 192, kernel_size=5, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(pool, stride=2),
        nn.Conv2d(192, 384, kernel_size=3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(384, 256, kernel_size=3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(256, 256, kernel_size=3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(pool, stride=2),
    )


def _original_stem(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, 64, kernel_size=11, stride=4, padding=2)


def _small_stem(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, 64, kernel_size=5, padding=2)


def _after(layer: nn.Conv2d | nn.MaxPool2d, side: int, axis: int) -> int:
    """The pixels of one side after a convolution or pool (PyTorch's formula, no dilation)."""
    kernel, stride, padding = (
        _on_axis(value, axis) for value in (layer.kernel_size, layer.stride, layer.padding)
    )
    return (side + 2 * padding - kernel) // stride + 1


def _on_axis(value: object, axis: int) -> int:
    return value[axis] if isinstance(value, tuple) else int(str(value))


def _initialise(module: nn.Module) -> None:
    # He's scale keeps the signal through eight layers without normalisation; under PyTorch's default it shrinks by a
    # factor of about 2.4 a layer, and training stalls for epochs.
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
