"""Resizing and centre crop of a picture, as torchvision, timm and transformers do it before a model sees it.

squash to `size`, or the shorter side to `resize` → centre crop to `crop`

By Pillow, whose filters widen as a picture shrinks (antialias); without antialias by PyTorch's interpolation, which reads
two or four neighbours of each point however far the picture shrinks, as torchvision.transforms did for tensors. Sizes and
offsets are those of torchvision's Resize and CenterCrop, and of timm's ResizeKeepRatio for a pair of sides. Pure.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from PIL import Image

from dugs_stream.inputs.settings import ImageCodecSettings

FILTERS: Final = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}
"""By the names of `interpolation`."""

Sides = tuple[int, int]
"""Height and width in pixels."""


def fitted(image: Image.Image, settings: ImageCodecSettings) -> Image.Image:
    """The picture at the size that the settings ask for; itself if they ask for none."""
    sides = (image.height, image.width)
    if settings.size is not None:
        image = _resampled(image, settings.size, settings)
    elif settings.resize is not None:
        image = _resampled(image, resized_sides(sides, settings.resize), settings)
    return image if settings.crop is None else _cropped(image, settings.crop, settings)


def resized_sides(sides: Sides, resize: int | Sides) -> Sides:
    """Sides of the same aspect: the shorter one `resize` long, or the smallest that cover the pair [height, width].

    The longer side is cut to whole pixels by torchvision and transformers, and rounded by timm, whose pair it is.
    """
    height, width = sides
    if isinstance(resize, int):
        short, long = min(sides), max(sides)
        longer = int(resize * long / short)
        return (resize, longer) if height <= width else (longer, resize)
    ratio = min(height / resize[0], width / resize[1])
    return round(height / ratio), round(width / ratio)


def _resampled(image: Image.Image, sides: Sides, settings: ImageCodecSettings) -> Image.Image:
    height, width = sides
    if settings.antialias:
        return image.resize((width, height), FILTERS[settings.interpolation])
    pixels = np.array(image)
    planes = torch.from_numpy(pixels.astype(np.float32)).reshape(*pixels.shape[:2], -1).permute(2, 0, 1)
    corners = None if settings.interpolation == "nearest" else False  # where the option is not known
    found = torch.nn.functional.interpolate(
        planes[None], size=sides, mode=settings.interpolation, align_corners=corners, antialias=False
    )[0]
    if pixels.dtype == np.uint8:
        found = found.round().clamp(0, 255).to(torch.uint8)
    return Image.fromarray(found.permute(1, 2, 0).reshape(height, width, *pixels.shape[2:]).numpy())


def _cropped(image: Image.Image, crop: Sides, settings: ImageCodecSettings) -> Image.Image:
    """The middle of the picture; what it lacks is black."""
    top, left = (
        _offset(side, wanted, settings)
        for side, wanted in zip((image.height, image.width), crop, strict=True)
    )
    return image.crop((left, top, left + crop[1], top + crop[0]))


def _offset(side: int, wanted: int, settings: ImageCodecSettings) -> int:
    """Where the crop begins; below zero if the picture is shorter, and one half pixel goes where the library puts it."""
    if wanted > side:
        return -((wanted - side) // 2)
    spare = side - wanted
    return round(spare / 2) if settings.crop_rounding == "nearest" else spare // 2
