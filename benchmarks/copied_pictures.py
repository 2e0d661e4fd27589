"""Copies of a picture as they come back into a stream: re-encoded, shrunk, cut, turned, brightened.

Pictures are uint8 arrays (height, width) or (height, width, 3) at the size that the model takes, and so are the copies: what
a change costs is larger there than on the large file that the picture may come from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from io import BytesIO
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

Picture = NDArray[np.uint8]


def jpeg(image: Image.Image) -> Image.Image:
    """Encoded as JPEG of quality 50."""
    stream = BytesIO()
    image.save(stream, "JPEG", quality=50)
    with Image.open(stream) as opened:
        opened.load()
        return opened


def half_size(image: Image.Image) -> Image.Image:
    """Half as wide and high, and back."""
    width, height = image.size
    smaller = image.resize((width // 2, height // 2), Image.Resampling.BILINEAR)
    return smaller.resize(image.size, Image.Resampling.BILINEAR)


def crop(image: Image.Image) -> Image.Image:
    """The middle 90 % of its width and height, enlarged."""
    width, height = image.size
    box = (0.05 * width, 0.05 * height, 0.95 * width, 0.95 * height)
    return image.resize(image.size, Image.Resampling.BILINEAR, box=box)


def turn(image: Image.Image) -> Image.Image:
    """By five degrees; the corners are black."""
    return image.rotate(5, Image.Resampling.BILINEAR)


def brighter(image: Image.Image) -> Image.Image:
    """By a fifth."""
    return ImageEnhance.Brightness(image).enhance(1.2)


WAYS: Mapping[str, Callable[[Image.Image], Image.Image]] = MappingProxyType(
    {
        "JPEG of quality 50": jpeg,
        "half size and back": half_size,
        "90 % crop": crop,
        "turned by 5°": turn,
        "a fifth brighter": brighter,
    }
)


def copied(picture: Picture, way: str) -> Picture:
    """The copy, of the same shape."""
    return np.asarray(WAYS[way](Image.fromarray(picture)), dtype=np.uint8)
