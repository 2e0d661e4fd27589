"""Binary PGM and PPM of any maxval, scaled as Pillow does it and some hundred times faster.

Pillow scales these in Python, pixel by pixel: two seconds for a million of them. The values are the same, bit for bit.
Format: https://netpbm.sourceforge.net/doc/pgm.html
"""

from __future__ import annotations

import numpy as np
from PIL import Image

_BYTE, _TWO_BYTES = 255, 65535


def scaled(image: Image.Image, file: bytes) -> Image.Image | None:
    """The picture of an opened file that Pillow would scale: 8 bits a channel, or 16-bit grey; None for other files.

    Raises OSError if pixels are missing.
    """
    tiles = getattr(image, "tile", None)
    if image.format != "PPM" or not tiles or tiles[0][0] != "ppm":
        return None
    _, _, offset, (_, maxval) = tiles[0]
    channels = len(image.getbands())
    most = _TWO_BYTES if image.mode == "I" else _BYTE
    stored = np.dtype(np.uint8) if maxval <= _BYTE else np.dtype(">u2")
    count = image.height * image.width * channels
    if len(file) - offset < count * stored.itemsize:
        raise OSError("image file is truncated")
    pixels = np.frombuffer(file, stored, count, offset)
    # One entry a value that can be stored: beyond maxval all are white.
    scale = np.minimum(np.rint(np.arange(2 ** (8 * stored.itemsize)) / maxval * most), most)
    table = scale.astype(np.uint16 if most == _TWO_BYTES else np.uint8)
    shape = (image.height, image.width) if channels == 1 else (image.height, image.width, channels)
    return Image.fromarray(table[pixels].reshape(shape))
