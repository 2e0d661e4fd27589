"""Pictures read and shrunk, and bytes that are not pictures."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from dugs_stream.inputs.image import FORMATS
from dugs_stream.ops.gallery.thumbnails import read_picture, shrink
from tests.support.pages.events import encoded_picture
from tests.support.records.pictures import draw, png


def encoded(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """The picture as a file's bytes."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def size_of(content: bytes) -> tuple[int, int]:
    """Width and height."""
    return Image.open(io.BytesIO(content)).size


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_large_picture_becomes_a_small_jpeg(kind: str) -> None:
    """Of every format that the codec reads, its proportions kept."""
    thumbnail = shrink(encoded(draw("disc", 1, size=800).crop((0, 0, 800, 400)), kind), FORMATS)

    assert thumbnail is not None
    assert thumbnail.media_type == "image/jpeg"
    assert size_of(thumbnail.encoded) == (192, 96)
    assert len(thumbnail.encoded) < 12_000


def test_small_picture_stays_as_it_is_to_the_pixel() -> None:
    """A digit of 28 × 28 is shown as it is judged."""
    picture = draw("bar", 3, size=28)
    thumbnail = shrink(png(picture), FORMATS)

    assert thumbnail is not None
    assert thumbnail.media_type == "image/png"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(thumbnail.encoded))), np.asarray(picture))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_picture_of_any_mode_can_be_shown(mode: str) -> None:
    """Transparency lies on grey; sixteen bits become eight, and stay about as bright."""
    grey = Image.fromarray(np.full((300, 300), 51, np.uint8))
    picture = (
        Image.fromarray(np.full((300, 300), 51 * 257, np.uint16))
        if mode == "I;16"
        else grey.convert("RGB").convert(mode)
    )
    thumbnail = shrink(encoded(picture, "TIFF" if mode == "CMYK" else "PNG"), FORMATS)

    assert thumbnail is not None
    if mode != "1":
        assert abs(np.asarray(Image.open(io.BytesIO(thumbnail.encoded))).mean() - 51) < 3


def test_picture_that_lies_on_its_side_is_turned() -> None:
    """As its EXIF says, and as it was judged."""
    exif = Image.Exif()
    exif[0x112] = 6  # turned by 90 degrees
    thumbnail = shrink(encoded(Image.new("RGB", (400, 200)), "JPEG", exif=exif), FORMATS)

    assert thumbnail is not None
    assert size_of(thumbnail.encoded) == (96, 192)


WHOLE = png(draw("disc", 1, size=200))
BOMB = encoded(Image.new("1", (8_000, 8_000)))


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\x00",
        b"<svg onload=alert(1)>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
        WHOLE[:50],
        WHOLE[:-40],
        b"GIF89a",
        BOMB,
    ],
    ids=["empty", "zero", "svg", "eps", "header only", "torn", "gif without pixels", "64 million pixels"],
)
def test_what_is_no_picture_has_no_thumbnail(value: bytes) -> None:
    """Nor has one that would cost too much, or run a program to be read."""
    assert shrink(value, FORMATS) is None
    assert read_picture(value, FORMATS) is None


@pytest.mark.parametrize(
    ("mode", "kind", "expected"),
    [
        ("1", "PNG", "L"),
        ("L", "PNG", "L"),
        ("I;16", "PNG", "L"),
        ("P", "GIF", "RGB"),
        ("CMYK", "JPEG", "RGB"),
    ],
)
def test_picture_read_whole_is_grey_or_colour(mode: str, kind: str, expected: str) -> None:
    """What is drawn or encoded has one of two modes, and its own size."""
    picture = read_picture(encoded_picture(300, 200, mode, kind, colour=0), FORMATS)

    assert picture is not None
    assert (picture.mode, picture.size) == (expected, (300, 200))


def test_transparent_pixels_lie_on_neutral_grey() -> None:
    """Neither a white nor a black drawing vanishes."""
    picture = read_picture(encoded_picture(mode="RGBA", colour=0), FORMATS)

    assert picture is not None
    assert picture.getpixel((0, 0)) == (127, 127, 127)
