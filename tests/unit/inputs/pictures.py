"""Encoded pictures for the tests of the image codec, and the parts that they are put together from."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import torch
from PIL import Image

from dugs_stream.inputs.image import ImageCodec
from dugs_stream.inputs.settings import ImageCodecSettings
from dugs_stream.records import Rejection


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The image's bytes in a format."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def decoded(value: bytes, expected_shape: tuple[int, ...] | None = None, **options: Any) -> torch.Tensor:
    """The tensor, for values that must decode."""
    tensor = ImageCodec(ImageCodecSettings(**options)).decode(value, expected_shape)
    assert isinstance(tensor, torch.Tensor), tensor
    return tensor


def refused(value: bytes, expected_shape: tuple[int, ...] | None = None, **options: Any) -> Rejection:
    """The rejection, for values that must not."""
    rejection = ImageCodec(ImageCodecSettings(**options)).decode(value, expected_shape)
    assert isinstance(rejection, Rejection), rejection
    return rejection


def noise(height: int = 8, width: int = 6) -> Image.Image:
    """Colours without a pattern, so that each turn and each lost row shows."""
    return Image.fromarray(np.random.default_rng(7).integers(0, 256, (height, width, 3), np.uint8))


def chunk(kind: bytes, content: bytes, *, is_intact: bool = True) -> bytes:
    """One chunk of a PNG, with its checksum or with a wrong one."""
    checksum = zlib.crc32(kind + content) ^ (0 if is_intact else 1)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def png_with(*chunks: bytes, at_end: bool = False) -> bytes:
    """The noise as a PNG with these chunks behind its header, or before its end."""
    png = encoded(noise())
    at = len(png) - 12 if at_end else 33
    return png[:at] + b"".join(chunks) + png[at:]


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header promises a size, over few bytes."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 64))
        + chunk(b"IEND", b"")
    )


def jpeg_with(*segments: tuple[int, bytes]) -> bytes:
    """The noise as a JPEG with these segments (marker, content) in front of its own."""
    jpeg = encoded(noise(), "JPEG", quality=95)
    own = b"".join(
        bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content for marker, content in segments
    )
    return jpeg[:2] + own + jpeg[2:]


Entry = tuple[int, int, int, bytes]
"""Of a TIFF directory: tag, type, count, value."""

ORIENTED: Entry = (0x0112, 3, 1, struct.pack(">H", 6))
"""EXIF orientation 6: turn by 90° clockwise."""


def exif(*entries: Entry) -> bytes:
    """EXIF with these entries, as they are, whether they make sense or not."""
    directory, behind = struct.pack(">H", len(entries)), b""
    behind_at = 8 + 2 + 12 * len(entries) + 4
    for tag, kind, count, value in entries:
        where = struct.pack(">I", behind_at + len(behind)) if len(value) > 4 else value.ljust(4, b"\0")
        directory += struct.pack(">HHI", tag, kind, count) + where
        behind += value if len(value) > 4 else b""
    return b"Exif\0\0MM\0*" + struct.pack(">I", 8) + directory + bytes(4) + behind
