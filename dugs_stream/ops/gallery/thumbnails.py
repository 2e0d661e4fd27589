"""How does a record look, small? Its encoded image shrunk to a thumbnail, or nothing where there is no picture.

Read are the formats handed in and no others: some that Pillow knows run a program. Whatever cannot be read, or
is too large to be worth it, has no thumbnail; the record was judged all the same.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageOps

# The page shows a unique at 136 points, so that this serves screens of about one and a half pixels a point.
_LONGEST_SIDE = 192
# Smaller pictures stay lossless, since JPEG smears a digit of 28 × 28.
_CRISP_BELOW = 96
_JPEG_QUALITY = 80
# 32 million pixels are 128 MB while they are shrunk; a larger picture is not worth that for a thumbnail.
_MOST_PIXELS = 32 * 10**6
_BEHIND_TRANSPARENCY = (127, 127, 127)  # neutral, so that neither white nor black drawings vanish


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """An encoded small picture and its media type, image/png or image/jpeg."""

    media_type: str
    encoded: bytes


def shrink(encoded: bytes, formats: Sequence[str]) -> Thumbnail | None:
    """The picture at most 192 pixels wide and high, its first frame, turned by its EXIF; None where there is none."""
    try:
        with Image.open(io.BytesIO(encoded), formats=list(formats)) as picture:
            if picture.width * picture.height > _MOST_PIXELS:
                return None
            picture.draft(None, (2 * _LONGEST_SIDE, 2 * _LONGEST_SIDE))  # lets JPEG skip most of its work
            small = _opaque(picture)
            small.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), Image.Resampling.LANCZOS, reducing_gap=2.0)
            return _encoded(ImageOps.exif_transpose(small))
    except Exception:  # noqa: BLE001 (Pillow's decoders raise whatever the damaged bytes make them trip over)
        return None


def _opaque(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I;16"):
        return picture.point(lambda value: value / 256).convert("L")
    if picture.has_transparency_data:
        behind = Image.new("RGBA", picture.size, _BEHIND_TRANSPARENCY)
        return Image.alpha_composite(behind, picture.convert("RGBA")).convert("RGB")
    return picture.convert("L" if picture.mode in {"L", "1"} else "RGB")


def _encoded(picture: Image.Image) -> Thumbnail:
    buffer = io.BytesIO()
    if max(picture.size) < _CRISP_BELOW:
        picture.save(buffer, "PNG")
        return Thumbnail("image/png", buffer.getvalue())
    picture.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return Thumbnail("image/jpeg", buffer.getvalue())
