"""Pictures: crisp where small, small where large, and none where there is none."""

from __future__ import annotations

import base64
from io import BytesIO

import pytest
from PIL import Image

from dugs_stream.lab.demo.pictures import data_uri, fit, read_picture
from tests.support.pages.events import encoded_picture


@pytest.mark.parametrize(
    "encoded", [None, b"", b"not an image", encoded_picture(20, 20)[:40], encoded_picture(kind="GIF")[:8]]
)
def test_what_is_no_readable_image_has_no_picture(encoded: bytes | None) -> None:
    """A record without a picture is shown without one; it is no error."""
    assert read_picture(encoded) is None


@pytest.mark.parametrize(
    ("mode", "kind", "expected"),
    [
        ("1", "PNG", "L"),
        ("L", "PNG", "L"),
        ("P", "GIF", "RGB"),
        ("CMYK", "JPEG", "RGB"),
        ("I;16", "PNG", "RGB"),
    ],
)
def test_every_mode_becomes_grey_or_colour(mode: str, kind: str, expected: str) -> None:
    """What is pasted and packed has one of two modes."""
    picture = read_picture(encoded_picture(mode=mode, kind=kind, colour=0))

    assert picture is not None
    assert picture.mode == expected


def test_transparent_pixels_lie_on_neutral_grey() -> None:
    """Neither a white nor a black drawing vanishes."""
    picture = read_picture(encoded_picture(mode="RGBA", colour=0))

    assert picture is not None
    assert picture.getpixel((0, 0)) == (127, 127, 127)


def test_small_picture_grows_by_a_whole_factor_pixel_by_pixel() -> None:
    """Enlarging invents no grey between black and white."""
    checker = Image.new("L", (2, 2))
    checker.putpixel((0, 0), 255)

    grown = fit(checker, 101)

    assert grown.size == (100, 100)
    assert grown.getcolors() == [(7_500, 0), (2_500, 255)]


@pytest.mark.parametrize(
    ("size", "fitted"), [((300, 100), (100, 33)), ((80, 80), (100, 100)), ((5000, 1), (100, 1))]
)
def test_other_pictures_fill_the_box_by_their_longer_side(
    size: tuple[int, int], fitted: tuple[int, int]
) -> None:
    """Proportions hold, and no side vanishes."""
    assert fit(Image.new("RGB", size), 100).size == fitted


def test_data_uri_shrinks_and_never_enlarges() -> None:
    """A page carries no more pixels than it shows."""
    for size, expected in [((28, 28), (28, 28)), ((400, 200), (100, 50))]:
        uri = data_uri(Image.new("L", size), 100)

        head, _, body = uri.partition(",")
        assert head == "data:image/png;base64"
        assert Image.open(BytesIO(base64.b64decode(body))).size == expected


def test_large_colour_picture_is_packed_as_jpeg() -> None:
    """Photographs would weigh ten times as much as PNG."""
    assert data_uri(Image.new("RGB", (400, 400)), 200).startswith("data:image/jpeg;base64,")
