"""Pictures whose metadata is broken: only pixels decide, and pictures that were always read give the same bits."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps, TiffImagePlugin

from dugs_stream.inputs.image_containers import pixels_alone
from tests.unit.inputs.pictures import (
    ORIENTED,
    Entry,
    chunk,
    decoded,
    encoded,
    exif,
    jpeg_with,
    noise,
    png_with,
    refused,
)

TEXT = zlib.compress(b"a" * 3 * 2**20)
"""Three megabytes of text in three kilobytes."""
XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
DPI_IN_INCHES: Entry = (0x0128, 3, 1, struct.pack(">H", 2))

BROKEN_PNG = {
    "zTXt of megabytes": png_with(chunk(b"zTXt", b"Comment\0\0" + TEXT)),
    "iTXt of megabytes": png_with(chunk(b"iTXt", b"Comment\0\1\0\0\0" + TEXT)),
    "iTXt behind the pixels": png_with(chunk(b"iTXt", b"Comment\0\1\0\0\0" + TEXT), at_end=True),
    "text beyond 64 MiB": png_with(*[chunk(b"tEXt", b"Comment\0" + bytes(2**20))] * 65),
    "text of unknown compression": png_with(chunk(b"zTXt", b"Comment\0\7" + zlib.compress(b"x"))),
    "text with a wrong checksum": png_with(chunk(b"tEXt", b"Comment\0hello", is_intact=False)),
    "profile of megabytes": png_with(chunk(b"iCCP", b"sRGB\0\0" + TEXT)),
    "profile of unknown compression": png_with(chunk(b"iCCP", b"sRGB\0\7" + zlib.compress(b"x"))),
    "profile cut": png_with(chunk(b"iCCP", b"s")),
    "gamma cut": png_with(chunk(b"gAMA", b"1")),
    "chromaticity cut": png_with(chunk(b"cHRM", b"1")),
    "rendering intent cut": png_with(chunk(b"sRGB", b"")),
    "pixel density cut": png_with(chunk(b"pHYs", b"1")),
    "animation control cut": png_with(chunk(b"acTL", b"1")),
    "exif cut": png_with(chunk(b"eXIf", b"MM\0*")),
}
BROKEN_JPEG = {
    "profile without its number": jpeg_with((0xE2, b"ICC_PROFILE\0")),
    "profile without its count": jpeg_with((0xE2, b"ICC_PROFILE\0\1")),
    "profile of garbage": jpeg_with((0xE2, b"ICC_PROFILE\0\1\1garbage")),
    "JFIF cut": jpeg_with((0xE0, b"JFIF\0")),
    "Adobe cut": jpeg_with((0xEE, b"Adobe")),
    "Photoshop cut": jpeg_with((0xED, b"Photoshop 3.0\x008BIM\x03\xed")),
    "pictures index of garbage": jpeg_with((0xE2, b"MPF\0garbage")),
    "exif of garbage": jpeg_with((0xE1, b"Exif\0\0garbage")),
    "exif cut": jpeg_with((0xE1, b"Exif\0\0MM\0*")),
}
BROKEN_EXIF = {
    "a negative rational": (0x011A, 10, 1, struct.pack(">ii", -1, 3)),
    "a rational over zero": (0x011A, 5, 1, struct.pack(">II", 1, 0)),
    "text for a rational": (0x011A, 2, 4, b"abc\0"),
    "no rational at all": (0x011A, 5, 0, b""),
    "a number for text": (0x010F, 12, 1, struct.pack(">d", float("nan"))),
    "an offset out of the file": (0x8769, 4, 1, struct.pack(">I", 10**9)),
}
BROKEN_TIFF = {
    "text for the resolution": (282, 2, "abc", None),
    "text for the resolution, packed": (282, 2, "abc", "tiff_lzw"),
    "a number for XMP": (700, 4, 7, None),
}


@pytest.mark.parametrize("value", BROKEN_PNG.values(), ids=BROKEN_PNG.keys())
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_png_with_broken_metadata_is_its_pixels(value: bytes) -> None:
    """What says nothing about pixels cannot reject them."""
    assert torch.equal(decoded(value), decoded(encoded(noise())))


@pytest.mark.parametrize("value", BROKEN_JPEG.values(), ids=BROKEN_JPEG.keys())
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_jpeg_with_broken_metadata_is_its_pixels(value: bytes) -> None:
    """What says nothing about pixels cannot reject them."""
    assert torch.equal(decoded(value), decoded(encoded(noise(), "JPEG", quality=95)))


@pytest.mark.parametrize(
    ("tag", "kind", "value", "compression"), BROKEN_TIFF.values(), ids=BROKEN_TIFF.keys()
)
def test_tiff_with_broken_metadata_is_its_pixels(
    tag: int, kind: int, value: str | int, compression: str | None
) -> None:
    """A TIFF keeps its metadata in the directory of its pixels; those that pixels need are read."""
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    directory.tagtype[tag], directory.tagtype[296] = kind, 3
    directory[tag], directory[296] = value, 3

    broken = encoded(noise(), "TIFF", tiffinfo=directory, compression=compression)

    assert torch.equal(decoded(broken), decoded(encoded(noise())))


@pytest.mark.parametrize("entry", BROKEN_EXIF.values(), ids=BROKEN_EXIF.keys())
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_picture_is_turned_whatever_else_its_exif_holds(kind: str, entry: Entry) -> None:
    """The orientation is the only number in EXIF that counts."""
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95}

    turned = decoded(encoded(noise(), kind, exif=exif(ORIENTED, entry, DPI_IN_INCHES), **options))

    assert torch.equal(turned, decoded(encoded(noise(), kind, **options)).rot90(-1, (1, 2)))


@pytest.mark.parametrize(
    "entry",
    [(0x0112, 3, 1, b"\xff\xff"), (0x0112, 2, 3, b"up\0"), (0x0112, 3, 0, b""), (0x0112, 5, 1, bytes(8))],
    ids=["65535", "text", "none", "0/0"],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_orientation_that_is_none_turns_nothing(entry: Entry) -> None:
    """A picture that does not say how it stands, stands."""
    assert torch.equal(decoded(encoded(noise(), exif=exif(entry))), decoded(encoded(noise())))


@pytest.mark.parametrize(
    "value",
    [
        png_with(chunk(b"zTXt", b"Comment\0\0" + TEXT), chunk(b"eXIf", exif(ORIENTED)[6:])),
        png_with(chunk(b"gAMA", b""), chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)),
        png_with(chunk(b"gAMA", b""), chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP))),
        png_with(
            chunk(b"gAMA", b""),
            chunk(
                b"zTXt",
                b"Raw profile type exif\0\0"
                + zlib.compress(b"\nexif\n%8d\n%b\n" % (len(exif(ORIENTED)), exif(ORIENTED).hex().encode())),
            ),
        ),
        jpeg_with((0xE2, b"ICC_PROFILE\0"), (0xE1, exif(ORIENTED))),
        jpeg_with((0xE2, b"ICC_PROFILE\0"), (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP)),
    ],
    ids=["exif", "xmp", "xmp, compressed", "exif as text", "exif in JPEG", "xmp in JPEG"],
)
def test_picture_read_without_its_metadata_still_stands_upright(value: bytes) -> None:
    """Orientation is kept when the rest is left out, wherever it is written."""
    kind = "PNG" if value.startswith(b"\x89PNG") else "JPEG"

    assert torch.equal(decoded(value), decoded(encoded(noise(), kind, quality=95)).rot90(-1, (1, 2)))


def test_damaged_pixels_stay_damaged_without_the_metadata() -> None:
    """A second reading forgives nothing that pixels need."""
    broken = BROKEN_PNG["zTXt of megabytes"]
    cut = broken[: broken.index(b"IDAT") + 60]

    assert refused(cut).error.startswith("damaged image: OSError")
    assert refused(BROKEN_JPEG["JFIF cut"][:700]).error.startswith("damaged image: OSError")


def test_transparency_that_is_cut_is_no_metadata() -> None:
    """It decides pixels: what cannot be read of it rejects the picture."""
    assert refused(png_with(chunk(b"tRNS", b"\0"))).error == "damaged image: ValueError: Truncated tRNS chunk"


@pytest.mark.parametrize(
    "value", [encoded(noise()), encoded(noise(), "GIF"), b"\x89PNG\r\n\x1a\n", b"", b"II*\0"]
)
def test_file_without_metadata_is_not_read_twice(value: bytes) -> None:
    """There is nothing to leave out."""
    assert pixels_alone(value) is None


def as_read_before(value: bytes, mode: str) -> torch.Tensor:
    """The tensor by the first version of this codec, for pictures of 8 bits."""
    with Image.open(io.BytesIO(value)) as image:
        turned = ImageOps.exif_transpose(image)
        if turned.has_transparency_data and mode != "RGBA":
            turned = Image.alpha_composite(Image.new("RGBA", turned.size, "white"), turned.convert("RGBA"))
        pixels = np.asarray(turned.convert(mode), dtype=np.float32) / np.float32(255)
    return torch.from_numpy(pixels.transpose(2, 0, 1) if pixels.ndim == 3 else np.stack([pixels]))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("kind", "source"),
    [
        ("PNG", "1"), ("PNG", "L"), ("PNG", "LA"), ("PNG", "P"), ("PNG", "RGB"), ("PNG", "RGBA"), ("JPEG", "L"),
        ("JPEG", "RGB"), ("JPEG", "CMYK"), ("WEBP", "RGB"), ("WEBP", "RGBA"), ("GIF", "P"), ("GIF", "L"),
        ("BMP", "RGB"), ("PPM", "RGB"), ("TIFF", "RGB"), ("TIFF", "RGBA"), ("TIFF", "CMYK"), ("TIFF", "P"),
    ],
)  # fmt: skip
def test_pictures_that_were_read_before_give_the_same_bits(kind: str, source: str, orientation: int) -> None:
    """Every format, mode and turn, against the steps that this codec began with."""
    picture = noise()
    picture.putalpha(Image.fromarray(np.random.default_rng(8).integers(0, 256, (8, 6), np.uint8)))
    turn = Image.Exif()
    turn[0x0112] = orientation
    options = {} if kind in {"GIF", "BMP", "PPM"} else {"exif": turn}
    value = encoded(picture.convert(source) if source != "CMYK" else noise().convert("CMYK"), kind, **options)

    for mode in ("L", "RGB", "RGBA"):
        assert torch.equal(decoded(value, mode=mode), as_read_before(value, mode)), mode
