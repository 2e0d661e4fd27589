"""How does a record look? Its picture, enlarged crisply for print or packed small for a page.

Takes encoded images (PNG, JPEG, WebP … whatever Pillow reads). What cannot be read has no picture; the
record was judged all the same, so that is no error here.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from io import BytesIO

from PIL import Image

from dugs_stream.lab.demo.events import JudgedRecord

PictureOf = Callable[[JudgedRecord], bytes | None]
"""Finds the encoded image of a judged record; None where there is none."""

_BEHIND_TRANSPARENCY = (127, 127, 127)  # neutral, so that neither white nor black drawings vanish
_JPEG_QUALITY = 85
_CRISP_BELOW = 96  # pixels; smaller pictures stay lossless, since JPEG smears a digit of 28 × 28


def read_picture(encoded: bytes | None) -> Image.Image | None:
    """The first frame as grey ("L") or colour ("RGB"); None where there is no readable image."""
    if not encoded:
        return None
    try:
        with Image.open(BytesIO(encoded)) as opened:
            opened.load()
            return _without_transparency(opened)
    # SyntaxError and struct.error are what Pillow's readers raise for some damaged files
    except (OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError):
        return None


def fit(picture: Image.Image, box: int) -> Image.Image:
    """The picture scaled so that its longer side fills `box` pixels as well as it can.

    Small pictures grow by a whole factor, pixel by pixel, so that they stay crisp (and may leave a margin);
    larger ones are resampled.
    """
    longer = max(picture.size)
    factor = box // longer
    if factor >= 2:  # noqa: PLR2004  below two, whole factors leave up to half the box empty
        return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    scale = box / longer
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS)


def data_uri(picture: Image.Image, longest: int) -> str:
    """The picture as a `data:` URI, shrunk to at most `longest` pixels and never enlarged."""
    shrunk = picture.copy()
    shrunk.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    if shrunk.mode == "L" or max(shrunk.size) < _CRISP_BELOW:
        kind = "png"
        shrunk.save(buffer, "PNG", optimize=True)
    else:
        kind = "jpeg"
        shrunk.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _without_transparency(picture: Image.Image) -> Image.Image:
    if picture.mode in {"L", "1"}:
        return picture.convert("L")
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    behind = Image.new("RGBA", picture.size, _BEHIND_TRANSPARENCY)
    return Image.alpha_composite(behind, picture.convert("RGBA")).convert("RGB")
