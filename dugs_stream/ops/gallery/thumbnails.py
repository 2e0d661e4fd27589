"""Thumbnails of records: an encoded image read, made opaque and shrunk, or the beginning of a text.

Only the formats handed in are read: to read some others, Pillow runs a program. A record without a thumbnail was
judged all the same.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageOps

TEXT = "text/plain; charset=utf-8"
"""The media type of a text."""

# The page shows a unique at 136 points, so that this serves screens of about one and a half pixels a point.
_LONGEST_SIDE = 192
# Smaller pictures stay lossless, since JPEG smears a digit of 28 × 28.
_CRISP_BELOW = 96
_JPEG_QUALITY = 80
# 32 million pixels are 128 MB while they are shrunk; a larger picture is not worth that for a thumbnail.
_MOST_PIXELS = 32 * 10**6
_BEHIND_TRANSPARENCY = (127, 127, 127)  # neutral, so that neither white nor black drawings vanish


# About a paragraph, of which a card shows the first lines.
_MOST_CHARACTERS = 600


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """An encoded small picture or a short text, and its media type: image/png, image/jpeg or text/plain."""

    media_type: str
    encoded: bytes

    @property
    def text(self) -> str | None:
        """The text; None for a picture."""
        return self.encoded.decode() if self.media_type == TEXT else None


def excerpt(text: str) -> Thumbnail:
    """The text's first 600 characters; half of a surrogate pair becomes a question mark."""
    cut = text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 1] + "…"
    return Thumbnail(TEXT, cut.encode("utf-8", "replace"))


def shrink(encoded: bytes, formats: Sequence[str]) -> Thumbnail | None:
    """The picture at most 192 pixels wide and high; see `read_picture`."""
    picture = read_picture(encoded, formats, _LONGEST_SIDE)
    if picture is None:
        return None
    buffer = io.BytesIO()
    if max(picture.size) < _CRISP_BELOW:
        picture.save(buffer, "PNG")
        return Thumbnail("image/png", buffer.getvalue())
    picture.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return Thumbnail("image/jpeg", buffer.getvalue())


def read_picture(
    encoded: bytes, formats: Sequence[str], longest_side: int | None = None
) -> Image.Image | None:
    """The first frame as grey ("L") or colour ("RGB"), turned by its EXIF; None if it cannot be read.

    longest_side  in pixels: shrink to it while reading, never enlarge; None: as it is
    """
    try:
        with Image.open(io.BytesIO(encoded), formats=list(formats)) as picture:
            if picture.width * picture.height > _MOST_PIXELS:
                return None
            if longest_side is not None:
                picture.draft(None, (2 * longest_side, 2 * longest_side))  # lets JPEG skip most of its work
            opaque = _opaque(picture)
            if longest_side is not None:
                opaque.thumbnail((longest_side, longest_side), Image.Resampling.LANCZOS, reducing_gap=2.0)
            return ImageOps.exif_transpose(opaque)
    except Exception:  # noqa: BLE001 (Pillow's decoders raise many kinds of error on damaged bytes)
        return None


def _opaque(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I;16"):
        return picture.point(lambda value: value / 256).convert("L")
    if picture.has_transparency_data:
        behind = Image.new("RGBA", picture.size, _BEHIND_TRANSPARENCY)
        return Image.alpha_composite(behind, picture.convert("RGBA")).convert("RGB")
    return picture.convert("L" if picture.mode in {"L", "1"} else "RGB")
