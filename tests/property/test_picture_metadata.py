"""Law of pictures: whatever bytes stand in their metadata, they are read, and their pixels are the same."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dugs_stream.inputs.image import ImageCodec
from dugs_stream.inputs.settings import ImageCodecSettings
from tests.unit.inputs.pictures import Entry, chunk, encoded, exif, jpeg_with, noise, png_with

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of metadata that it cannot read

_SHORT = st.binary(max_size=60)
_TAGS = st.one_of(
    st.sampled_from([0x0112, 0x011A, 0x011B, 0x0128, 0x010F, 0x014A, 0x0201, 0x02BC, 0x8769, 0x8825, 0xA005]),
    st.integers(0, 65535),
)
_COUNTS = st.sampled_from([0, 1, 2, 9, 1000, 2**31])
_ENTRIES: st.SearchStrategy[Entry] = st.tuples(_TAGS, st.integers(0, 20), _COUNTS, st.binary(max_size=16))


@st.composite
def any_exif(draw: st.DrawFn) -> bytes:
    """Directories of odd entries, with bytes that were changed or cut off."""
    whole = bytearray(exif(*draw(st.lists(_ENTRIES, max_size=5))))
    for place, byte in draw(
        st.lists(st.tuples(st.integers(6, len(whole) - 1), st.integers(0, 255)), max_size=2)
    ):
        whole[place] = byte
    return bytes(whole[: draw(st.one_of(st.none(), st.integers(0, len(whole))))])


_JPEG_BEGINNINGS = (
    b"",
    b"JFIF\0",
    b"Exif\0\0",
    b"ICC_PROFILE\0",
    b"Photoshop 3.0\x008BIM",
    b"MPF\0",
    b"FPXR\0",
)
_SEGMENTS = st.one_of(
    st.tuples(st.just(0xE1), any_exif()),
    st.tuples(
        st.sampled_from([0xE0, 0xE1, 0xE2, 0xE5, 0xED, 0xFE]),
        st.builds(bytes.__add__, st.sampled_from(_JPEG_BEGINNINGS), _SHORT),
    ),
    st.tuples(
        st.just(0xEE), st.binary(max_size=4).map(b"Adobe".__add__)
    ),  # longer ones say how colours are stored
)
_PNG_BEGINNINGS = (
    b"",
    b"exif\0",
    b"c\0\0",
    b"c\0\1\0\0\0",
    b"XML:com.adobe.xmp\0\0\0\0\0",
    b"Raw profile type exif\0\0",
)
_CHUNKS = st.one_of(
    st.builds(chunk, st.just(b"eXIf"), any_exif().map(lambda whole: whole[6:]), is_intact=st.booleans()),
    st.builds(
        chunk,
        st.sampled_from(
            [
                b"tEXt",
                b"zTXt",
                b"iTXt",
                b"iCCP",
                b"gAMA",
                b"cHRM",
                b"sRGB",
                b"pHYs",
                b"tIME",
                b"sBIT",
                b"bKGD",
                b"prVt",
            ]
        ),
        st.builds(bytes.__add__, st.sampled_from(_PNG_BEGINNINGS), _SHORT),
        is_intact=st.booleans(),
    ),
)


def decoded(value: bytes) -> torch.Tensor:
    """The tensor; a rejection fails the test."""
    tensor = ImageCodec(ImageCodecSettings()).decode(value, None)
    assert isinstance(tensor, torch.Tensor), tensor
    return tensor


def is_turned(found: torch.Tensor, upright: torch.Tensor) -> bool:
    """Whether one is the other, turned or mirrored: drawn EXIF may say how the picture stands."""
    quarters = [upright.rot90(quarter, (1, 2)) for quarter in range(4)]
    return any(torch.equal(found, each) for turned in quarters for each in (turned, turned.flip(2)))


@given(st.lists(_SEGMENTS, min_size=1, max_size=3))
def test_segments_of_any_bytes_change_no_pixel_of_a_jpeg(segments: list[tuple[int, bytes]]) -> None:
    """Camera makers, editors and broken tools write what they like."""
    assert is_turned(decoded(jpeg_with(*segments)), decoded(encoded(noise(), "JPEG", quality=95)))


@given(st.lists(_CHUNKS, min_size=1, max_size=3), st.booleans())
def test_ancillary_chunks_of_any_bytes_change_no_pixel_of_a_png(chunks: list[bytes], at_end: bool) -> None:
    """Their checksums may be wrong, too."""
    assert is_turned(decoded(png_with(*chunks, at_end=at_end)), decoded(encoded(noise())))
