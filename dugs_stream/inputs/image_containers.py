"""PNG, JPEG and TIFF files reduced to what their pixels need, for pictures whose metadata cannot be read.

A broken number in EXIF, a colour profile of the wrong form or a compressed text of megabytes makes Pillow refuse the
whole file. `pixels_alone` copies the file without them; what tells the picture's orientation is handed back beside it.
Sources: PNG (W3C, third edition) §5, JPEG (ITU T.81) annex B, TIFF 6.0 §2.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
_MOST_TEXT_BYTES = 2**20
"""Of one inflated text: far more than the tags of a camera take."""

_JPEG_START, _JPEG_SCAN = b"\xff\xd8\xff", 0xDA
_JPEG_COMMENT, _JPEG_EXIF, _JPEG_JFIF, _JPEG_ADOBE = 0xFE, 0xE1, 0xE0, 0xEE
_JFIF_BYTES, _ADOBE_BYTES = 14, 12
"""libjpeg takes the colour transform from these two segments, and passes over shorter ones."""
_XMP_IN_JPEG = b"http://ns.adobe.com/xap/1.0/\0"

_TIFF_ORIENTATION, _TIFF_XMP = 274, 700
_TIFF_PIXELS = {
    256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325,
    332, 338, 339, 347, *range(512, 522), 529, 530, 531, 532,
}  # fmt: skip
_TIFF_TYPES = {_TIFF_ORIENTATION: {3}, _TIFF_XMP: {1, 7}}
"""SHORT; BYTE or UNDEFINED: the only forms in which Pillow reads these two."""


@dataclass(frozen=True, slots=True)
class PixelsAlone:
    """A file without metadata, and the metadata that tells its orientation, by Pillow's names of `Image.info`."""

    file: bytes
    info: dict[str, Any] = field(default_factory=dict)


def pixels_alone(file: bytes) -> PixelsAlone | None:
    """The same picture without metadata; None if the file holds none, or is of another format. Never raises."""
    try:
        if file.startswith(_PNG_SIGNATURE):
            found = _png(file)
        elif file.startswith(_JPEG_START):
            found = _jpeg(file)
        elif file[:4] in {b"II*\0", b"MM\0*"}:
            found = _tiff(file)
        else:
            return None
    except (struct.error, IndexError, ValueError):
        return None  # damaged beyond its metadata
    return found if found.file != file else None


def _png(file: bytes) -> PixelsAlone:
    kept, info = [_PNG_SIGNATURE], dict[str, Any]()
    for kind, content, whole, is_intact in _png_chunks(file):
        if kind in _PNG_PIXELS:
            kept.append(whole)
        elif is_intact:
            info |= _png_orientation(kind, content)
    return PixelsAlone(b"".join(kept), info)


def _png_chunks(file: bytes) -> Iterator[tuple[bytes, bytes, bytes, bool]]:
    """Kind, content, the whole chunk, and whether its checksum is right; the last one may be cut."""
    at = len(_PNG_SIGNATURE)
    while at + 8 <= len(file):
        length, kind = struct.unpack_from(">I4s", file, at)
        end = at + 12 + length
        content, checksum = file[at + 8 : at + 8 + length], file[end - 4 : end]
        is_pixels = kind in _PNG_PIXELS  # Pillow checks those itself
        is_intact = not is_pixels and checksum == struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))
        yield kind, content, file[at:end], is_intact
        at = end


def _png_orientation(kind: bytes, content: bytes) -> dict[str, Any]:
    if kind == b"eXIf":
        return {"exif": b"Exif\0\0" + content}
    keyword, _, rest = content.partition(b"\0")
    if kind in {b"zTXt", b"tEXt"} and keyword == b"Raw profile type exif":
        text = _inflated(rest[1:]) if kind == b"zTXt" else rest
        return {} if text is None else {keyword.decode(): text.decode("latin-1")}
    if kind == b"iTXt" and keyword == b"XML:com.adobe.xmp" and len(rest) > 1:
        packed = rest[2:].split(b"\0", 2)[-1]
        text = _inflated(packed) if rest[0] else packed
        return {} if text is None else {keyword.decode(): text.decode("utf-8", "replace")}
    return {}


def _inflated(packed: bytes) -> bytes | None:
    """The text behind a zlib stream; None if it is damaged or too long to be a camera's."""
    inflate = zlib.decompressobj()
    try:
        text = inflate.decompress(packed, _MOST_TEXT_BYTES)
    except zlib.error:
        return None
    return None if inflate.unconsumed_tail else text


def _jpeg(file: bytes) -> PixelsAlone:
    kept, info = [file[:2]], dict[str, Any]()
    at = 2
    while True:
        marker_at = file.index(b"\xff", at)  # ValueError: no scan, so no pixels
        while file[marker_at + 1] == 0xFF:  # noqa: PLR2004 (fill bytes before a marker)
            marker_at += 1
        marker = file[marker_at + 1]
        if marker == _JPEG_SCAN:
            return PixelsAlone(b"".join([*kept, file[marker_at:]]), info)
        at = marker_at + 2
        if marker in {0x00, 0x01} or 0xD0 <= marker <= 0xD9:  # noqa: PLR2004 (markers without a length)
            continue
        end = at + struct.unpack_from(">H", file, at)[0]
        content = file[at + 2 : end]
        if _is_jpeg_metadata(marker, content):
            info |= _jpeg_orientation(marker, content, info)
        else:
            kept.append(file[marker_at:end])
        at = end


def _is_jpeg_metadata(marker: int, content: bytes) -> bool:
    if marker == _JPEG_JFIF:
        return not (content.startswith(b"JFIF\0") and len(content) >= _JFIF_BYTES)
    if marker == _JPEG_ADOBE:
        return not (content.startswith(b"Adobe") and len(content) >= _ADOBE_BYTES)
    return marker == _JPEG_COMMENT or 0xE0 <= marker <= 0xEF  # noqa: PLR2004 (application segments)


def _jpeg_orientation(marker: int, content: bytes, info: dict[str, Any]) -> dict[str, Any]:
    if marker != _JPEG_EXIF:
        return {}
    if content.startswith(b"Exif\0\0"):
        return {"exif": info["exif"] + content[6:] if "exif" in info else content}
    return {"xmp": content[len(_XMP_IN_JPEG) :]} if content.startswith(_XMP_IN_JPEG) else {}


def _tiff(file: bytes) -> PixelsAlone:
    """The first directory again at the end of the file, without the entries that say nothing about pixels."""
    order = "<" if file[:2] == b"II" else ">"
    (at,) = struct.unpack_from(f"{order}I", file, 4)
    (count,) = struct.unpack_from(f"{order}H", file, at)
    kept = []
    for place in range(count):
        start = at + 2 + 12 * place
        tag, kind = struct.unpack_from(f"{order}HH", file, start)
        if tag in _TIFF_PIXELS or kind in _TIFF_TYPES.get(tag, ()):
            kept.append(file[start : start + 12])
    if len(kept) == count:
        return PixelsAlone(file)
    directory = struct.pack(f"{order}H", len(kept)) + b"".join(kept) + bytes(4)
    padding = bytes(len(file) % 2)  # a directory begins on a word
    header = file[:4] + struct.pack(f"{order}I", len(file) + len(padding))
    return PixelsAlone(header + file[8:] + padding + directory)
