"""Pillow's process-wide switches: what a user's module sets does not decide which records are pictures."""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import torch
from PIL import Image, ImageFile

from dugs_stream.inputs.pillow_switches import MOST_PIXELS, as_delivered
from tests.unit.inputs.pictures import chunk, decoded, encoded, noise, png_of_size, refused


@pytest.fixture
def loosened(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As modules that read pictures from the web set Pillow."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    yield
    assert Image.MAX_IMAGE_PIXELS is None, "what a user's module has set stays set"
    assert ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.usefixtures("loosened")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "PPM", "WEBP"])
def test_truncated_picture_is_rejected_where_pillow_is_told_to_load_it(kind: str) -> None:
    """Half a picture is no picture."""
    whole = encoded(noise(300, 300), kind)

    assert refused(whole[: len(whole) // 2]).error.startswith("damaged image")


@pytest.mark.usefixtures("loosened")
@pytest.mark.parametrize("size", [(9_500, 9_500), (20_000, 20_000)])
def test_bomb_is_rejected_where_pillow_has_no_limit(size: tuple[int, int]) -> None:
    """The limit is this codec's own."""
    with pytest.warns(Image.DecompressionBombWarning) if size[0] < 10_000 else nullcontext():
        assert refused(png_of_size(*size)).error.startswith("possible decompression bomb")


def test_picture_is_read_where_pillow_has_a_smaller_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stricter is other too."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)

    assert decoded(encoded(noise())).shape == (3, 8, 6)
    assert Image.MAX_IMAGE_PIXELS == 10


def test_limit_is_that_of_this_pillow() -> None:
    """Read at import, before anybody can have changed it, the default is the number in our documents."""
    header = struct.pack(
        ">IIBBBBB", 9_459, 9_459, 8, 0, 0, 0, 0
    )  # 89 472 681 pixels, the largest square below
    pixels = chunk(b"IDAT", zlib.compress(bytes(10)))

    assert MOST_PIXELS == 89_478_485
    error = refused(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")).error
    assert error.startswith("damaged image"), "allowed, and its pixels are not there"


def test_switches_are_held_until_the_last_thread_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first thread to leave loosens nothing for the others; after the last, all is as found."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    entered, may_leave = threading.Event(), threading.Event()

    def stay() -> None:
        with as_delivered():
            entered.set()
            may_leave.wait(10)

    thread = threading.Thread(target=stay)
    thread.start()
    assert entered.wait(10)
    with as_delivered():
        assert not ImageFile.LOAD_TRUNCATED_IMAGES
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    may_leave.set()
    thread.join(10)

    assert ImageFile.LOAD_TRUNCATED_IMAGES


def test_switch_that_is_set_meanwhile_is_held_for_the_next_and_stays_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A module that is imported late loosens Pillow for itself, and for nobody here."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", False)
    with as_delivered():
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        with as_delivered():
            assert not ImageFile.LOAD_TRUNCATED_IMAGES
    assert ImageFile.LOAD_TRUNCATED_IMAGES
    assert torch.equal(decoded(encoded(noise())), decoded(encoded(noise())))
