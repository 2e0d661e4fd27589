"""Pictures of shapes, drawn by Pillow and the same for the same seed: a folder a class, as a user has them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from tests.support.models.images import SIZE

CLASSES = ("bar", "disc", "square")


def draw(shape: str, seed: int, *, size: int = SIZE, mode: str = "L") -> Image.Image:
    """A bright shape somewhere near the middle, on noise."""
    generator = np.random.default_rng(seed)
    grey = generator.integers(0, 90, (size, size), dtype=np.uint8)
    picture = Image.fromarray(grey).convert(mode)
    pen, left = ImageDraw.Draw(picture), int(generator.integers(0, size // 4 + 1))
    box = (left, 1, left + size // 2, size - 2)
    bright = "white"
    if shape == "disc":
        pen.ellipse(box, fill=bright)
    elif shape == "square":
        pen.rectangle(box, outline=bright)
    else:
        pen.line((left, 0, left + 2, size), fill=bright)
    return picture


def png(picture: Image.Image) -> bytes:
    """The picture as the bytes of a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def folder_of_pictures(folder: Path, each: int = 8, *, size: int = SIZE, mode: str = "L") -> Path:
    """`folder`/CLASS/NUMBER.png, `each` of every class."""
    for place, shape in enumerate(CLASSES):
        (folder / shape).mkdir(parents=True, exist_ok=True)
        for number in range(each):
            drawn = draw(shape, 1000 * place + number, size=size, mode=mode)
            (folder / shape / f"{number:02}.png").write_bytes(png(drawn))
    return folder
