"""Copies of records, to be caught as duplicates: exact ones, and near ones of pictures and texts.

A near copy is what people do to a record without making a new one of it: a picture is saved as a JPEG, brightened, cropped
by a tenth and enlarged again; a text loses a word, or its capitals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from io import BytesIO

import numpy as np
from PIL import Image, ImageEnhance

from dugs_stream.config import Settings
from dugs_stream.inputs.settings import ImageCodecSettings, TextCodecSettings

Copier = Callable[[bytes, np.random.Generator], bytes | None]
"""The copy of a record's value; None if it cannot be made of this one."""

EXACT = "exact"
_JPEG_QUALITY = 75  # Pillow's own default, and that of many cameras' smallest pictures
_BRIGHTER = 1.1
_KEPT = 0.9  # of width and height


def copiers_of(settings: Settings) -> Mapping[str, Copier]:
    """By name, the copies that can be made of records of this codec; exact ones always."""
    codec = settings.input.codec
    if isinstance(codec, ImageCodecSettings):
        return {EXACT: _exact, "JPEG": _jpeg, "brightness": _brighter, "crop": _cropped}
    if isinstance(codec, TextCodecSettings) and codec.field is None:
        return {EXACT: _exact, "word dropped": _without_a_word, "lower case": _lower}
    return {EXACT: _exact}


def _exact(value: bytes, _generator: np.random.Generator) -> bytes:
    return value


def _jpeg(value: bytes, _generator: np.random.Generator) -> bytes | None:
    return _changed(value, lambda picture: picture, "JPEG")


def _brighter(value: bytes, _generator: np.random.Generator) -> bytes | None:
    return _changed(value, lambda picture: ImageEnhance.Brightness(picture).enhance(_BRIGHTER))


def _cropped(value: bytes, _generator: np.random.Generator) -> bytes | None:
    def crop(picture: Image.Image) -> Image.Image:
        width, height = picture.size
        left, top = round(width * (1 - _KEPT) / 2), round(height * (1 - _KEPT) / 2)
        box = (left, top, left + max(1, round(width * _KEPT)), top + max(1, round(height * _KEPT)))
        return picture.crop(box).resize((width, height), Image.Resampling.BICUBIC)

    return _changed(value, crop)


def _changed(
    value: bytes, change: Callable[[Image.Image], Image.Image], file_format: str = "PNG"
) -> bytes | None:
    """The picture changed; None for one that Pillow cannot read, or whose form it cannot change."""
    try:
        with Image.open(BytesIO(value)) as opened:
            picture = opened if opened.mode in {"L", "RGB"} else opened.convert("RGB")
            buffer = BytesIO()
            change(picture).save(buffer, file_format, quality=_JPEG_QUALITY)
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    return buffer.getvalue()


def _without_a_word(value: bytes, generator: np.random.Generator) -> bytes | None:
    words = value.split(b" ")
    if len(words) < 3:  # noqa: PLR2004  of two words one is another text
        return None
    del words[int(generator.integers(len(words)))]
    return b" ".join(words)


def _lower(value: bytes, _generator: np.random.Generator) -> bytes | None:
    text = value.decode("utf-8", "replace")
    return text.lower().encode() if text.lower() != text else None
