"""Encoded images as tensors: every kind of picture people send, and every way one can be broken."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import torch
from PIL import Image

from dugs_stream.inputs.image import FORMATS, ImageCodec
from dugs_stream.inputs.settings import ImageCodecSettings
from dugs_stream.records import Reason, Rejection
from tests.unit.inputs.pictures import decoded, encoded, png_of_size, refused


def quadrants() -> Image.Image:
    """2 × 3 pixels, all different, so that every turn shows."""
    image = Image.new("RGB", (3, 2))
    image.putdata([(10, 0, 0), (20, 0, 0), (30, 0, 0), (40, 0, 0), (50, 0, 0), (60, 0, 0)])
    return image


def test_image_is_float32_channels_first_in_0_to_1() -> None:
    """Channel, row, column; 255 is 1."""
    image = quadrants()
    image.putpixel((2, 1), (255, 128, 0))

    tensor = decoded(encoded(image))

    assert (tensor.dtype, tensor.shape) == (torch.float32, (3, 2, 3))
    assert tensor.is_contiguous()
    assert tensor[:, 1, 2].tolist() == [1.0, np.float32(128 / 255), 0.0]
    assert tensor[0, 0, 1] == np.float32(20 / 255)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_named_format_is_read(kind: str) -> None:
    """What the documentation names, Pillow here can read."""
    tensor = decoded(encoded(Image.new("RGB", (8, 8), (255, 255, 255)), kind))

    assert tensor.shape == (3, 8, 8)
    assert tensor.min() > 0.97


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("RGBA", 4)])
@pytest.mark.parametrize("source", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_every_kind_of_picture_becomes_the_configured_mode(source: str, mode: str, channels: int) -> None:
    """White is white, however it was stored."""
    white = (
        Image.fromarray(np.full((4, 5), 65535, np.uint16))
        if source == "I;16"
        else Image.new("RGB", (5, 4), "white").convert(source)
    )

    tensor = decoded(encoded(white, "TIFF" if source == "CMYK" else "PNG"), mode=mode)

    assert tensor.shape == (channels, 4, 5)
    assert (tensor == 1.0).all()


@pytest.mark.parametrize("is_normalised", [False, True])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_numbers_are_those_of_float32_arithmetic(mode: str, is_normalised: bool) -> None:
    """Bit for bit x / 255, less the mean, by the standard deviation, for every value of a byte."""
    channels = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(0).permutation(np.arange(256 * channels) % 256).astype(np.uint8)
    pixels = pixels.reshape(16, 16, channels)
    own = {"mean": (0.485, 0.456, 0.406, 0.4)[:channels], "std": (0.229, 0.224, 0.225, 0.2)[:channels]}

    tensor = decoded(encoded(Image.fromarray(pixels.squeeze())), mode=mode, **(own if is_normalised else {}))

    expected = pixels.astype(np.float32) / np.float32(255)
    if is_normalised:
        expected = (expected - np.float32(own["mean"])) / np.float32(own["std"])
    assert np.array_equal(tensor.numpy(), expected.transpose(2, 0, 1))
    assert tensor.is_contiguous()


def test_16_bit_grey_keeps_its_16_bits() -> None:
    """Half of 65 535 is half of one, to float32's last bit."""
    tensor = decoded(encoded(Image.fromarray(np.array([[0, 32768, 65535]], np.uint16))), mode="L")

    assert tensor[0, 0].tolist() == pytest.approx([0.0, 32768 / 65535, 1.0], abs=1e-7)


@pytest.mark.parametrize("most", [256, 1023, 4095, 65534, 65535])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_pgm_above_8_bits_scales_like_a_16_bit_png(most: int, mode: str) -> None:
    """Its own maximum is white, in the binary and in the plain form, to a 16-bit step."""
    grey = [0, most // 3, most]
    binary = b"P5 3 1 %d\n" % most + struct.pack(">3H", *grey)
    plain = b"P2 3 1 %d\n%d %d %d\n" % (most, *grey)
    as_png = encoded(Image.fromarray(np.array([[round(each / most * 65535) for each in grey]], np.uint16)))

    assert torch.equal(decoded(binary, mode=mode), decoded(as_png, mode=mode))
    assert torch.equal(decoded(plain, mode=mode), decoded(as_png, mode=mode))
    assert decoded(binary, mode=mode)[:, 0, 2].tolist() == pytest.approx(
        [1.0] * len(decoded(binary, mode=mode))
    )


@pytest.mark.parametrize("most", [1, 15, 100, 254, 256, 1023, 4095, 65534, 65535])
@pytest.mark.parametrize(("magic", "channels"), [(b"P5", 1), (b"P6", 3)])
def test_netpbm_of_any_maximum_is_scaled_as_by_pillow(magic: bytes, channels: int, most: int) -> None:
    """To the last bit, values beyond the maximum included; only faster."""
    stored = np.uint8 if most < 256 else np.dtype(">u2")
    pixels = (
        np.random.default_rng(most).integers(0, np.iinfo(stored).max + 1, (9, 7, channels)).astype(stored)
    )
    value = magic + b" 7 9 %d\n" % most + pixels.tobytes()

    with Image.open(io.BytesIO(value)) as image:
        by_pillow = np.asarray(image, np.float32).reshape(9, 7, channels).transpose(2, 0, 1)
        white = 65535.0 if image.mode == "I" else 255.0
    tensor = decoded(value, mode="L" if channels == 1 else "RGB")

    if white == 255.0:
        assert np.array_equal(tensor.numpy(), by_pillow / np.float32(255))
    else:
        assert np.array_equal(tensor.numpy(), by_pillow * np.float32(255 / 65535) / np.float32(255))


@pytest.mark.parametrize("missing", [1, 20])
def test_netpbm_without_all_its_pixels_is_rejected(missing: int) -> None:
    """Also where Pillow is not asked for them."""
    whole = b"P5 4 4 4095\n" + bytes(32)

    assert refused(whole[:-missing]).error == "damaged image: OSError: image file is truncated"


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (encoded(Image.new("RGB", (16, 16)), "AVIF"), "an AVIF image"),
        (encoded(Image.new("RGB", (16, 16)), "JPEG2000"), "a JPEG 2000 image"),
        (b"\x00\x00\x00\x18ftypheic\x00\x00", "a HEIC image"),
        (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "a JPEG XL image"),
        (b"\x93NUMPY\x01\x00", "a .npy array"),
    ],
)
def test_format_that_is_not_read_is_named(value: bytes, name: str) -> None:
    """With the two ways out."""
    assert refused(value).error.startswith(f"{name}, which is not read; convert it (PNG, JPEG, ")


def test_pgm_below_8_bits_has_white_at_its_own_maximum() -> None:
    """15 of 15 is white."""
    assert decoded(b"P5 2 1 15\n\x00\x0f", mode="L").flatten().tolist() == [0.0, 1.0]


def test_transparent_pixels_are_laid_over_white() -> None:
    """The colour under a transparent pixel is nobody's; mode RGBA keeps it with its opacity."""
    image = Image.new("RGBA", (1, 1), (9, 9, 9, 0))

    assert decoded(encoded(image)).flatten().tolist() == [1.0, 1.0, 1.0]
    assert decoded(encoded(image), mode="RGBA")[3].item() == 0.0


def test_transparent_palette_entry_is_laid_over_white() -> None:
    """A GIF's transparent colour is transparent too."""
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.putdata([0, 1])

    tensor = decoded(encoded(image, "GIF", transparency=0))

    assert tensor[:, 0, 0].tolist() == [1.0, 1.0, 1.0]
    assert tensor[:, 0, 1].tolist() == [1.0, 0.0, 0.0]


def test_image_is_turned_by_its_exif_orientation() -> None:
    """A photograph stands upright, as its viewer shows it."""
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90° clockwise

    tensor = decoded(encoded(quadrants(), "PNG", exif=exif), expected_shape=(3, 3, 2))

    assert (tensor[0] * 255).round().tolist() == [[40, 10], [50, 20], [60, 30]]


def test_first_frame_of_an_animation_is_read() -> None:
    """One record is one picture."""
    frames = [Image.new("L", (2, 2), shade) for shade in (255, 0)]

    assert decoded(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), mode="L").min() == 1.0


def test_size_resizes_to_height_and_width() -> None:
    """Height first, as in the tensor."""
    assert decoded(encoded(quadrants()), size=(4, 8)).shape == (3, 4, 8)
    assert decoded(encoded(Image.fromarray(np.zeros((2, 2), np.uint16))), size=(4, 8), mode="L").shape == (
        1,
        4,
        8,
    )


def test_mean_and_std_are_a_channel_each() -> None:
    """(x - mean) / std, after the scaling to 0…1."""
    tensor = decoded(
        encoded(Image.new("RGB", (1, 1), (255, 0, 0))), mean=(0.5, 0.5, 0.0), std=(0.5, 0.25, 1.0)
    )

    assert tensor.flatten().tolist() == [1.0, -2.0, 0.0]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"hello, world", "not an image of a known format (PNG, JPEG, WEBP, GIF, BMP, TIFF, PPM): starts with b'hello, w'"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n", "not an image of a known format"),
        (b"\x89PNG\r\n\x1a\n", "a damaged or truncated PNG, or a kind of it that is not read (8 bytes)"),
        (b"\xff\xd8\xff\xe0", "a damaged or truncated JPEG"),
        (png_of_size(20_000, 20_000), "possible decompression bomb"),
        (png_of_size(9_500, 9_500), "possible decompression bomb"),
        (png_of_size(100, 100), "damaged image: OSError: image file is truncated"),
    ],
    ids=["text", "eps", "signature", "jpeg", "twice-the-limit", "over-the-limit", "too-few-pixels"],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_value_that_is_no_image_is_undecodable(value: bytes, expected: str) -> None:
    """Whatever Pillow makes of it, it is a rejection with a reason."""
    rejection = refused(value)

    assert rejection.reason is Reason.UNDECODABLE
    assert rejection.error.startswith(expected), rejection.error


def test_bomb_is_refused_also_where_warnings_are_errors() -> None:
    """The limit does not hang on the process's warning filters."""
    rejection = refused(png_of_size(9_500, 9_500))

    assert rejection.error.startswith("possible decompression bomb")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF"])
def test_image_cut_anywhere_is_rejected_and_never_raises(kind: str) -> None:
    """A truncated file of any format is a rejection, wherever it was cut (a last byte of padding may be missed)."""
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    whole = encoded(Image.fromarray(noise), kind)

    for length in range(1, len(whole) - 32, 37):
        outcome = ImageCodec(ImageCodecSettings()).decode(whole[:length], None)
        assert isinstance(outcome, Rejection), (kind, length, len(whole))
        assert outcome.reason is Reason.UNDECODABLE


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_image_with_flipped_bytes_never_raises(kind: str) -> None:
    """Damage inside a file is a picture or a rejection, and never an exception."""
    whole = bytearray(encoded(quadrants(), kind))
    generator = np.random.default_rng(1)

    for _ in range(60):
        damaged = bytearray(whole)
        for place in generator.integers(0, len(whole), 3):
            damaged[place] ^= int(generator.integers(1, 256))
        outcome = ImageCodec(ImageCodecSettings()).decode(bytes(damaged), (3, 2, 3))
        assert isinstance(outcome, torch.Tensor | Rejection)


def test_image_of_another_size_is_refused_by_its_header() -> None:
    """Before its pixels cost anything: these pixels are not even there."""
    rejection = refused(png_of_size(100, 100), expected_shape=(3, 28, 28))

    assert rejection == Rejection(Reason.WRONG_SHAPE, "the record is 3×100×100, the model takes 3×28×28")


def test_image_of_another_channel_count_is_refused() -> None:
    """Three channels do not go into a model of one."""
    rejection = refused(encoded(quadrants()), expected_shape=(1, 2, 3))

    assert rejection == Rejection(Reason.WRONG_SHAPE, "the record is 3×2×3, the model takes 1×2×3")


def test_32_bit_image_is_undecodable() -> None:
    """Numbers without a range cannot be scaled to 0…1; the way out is named."""
    rejection = refused(encoded(Image.fromarray(np.zeros((2, 2), np.float32)), "TIFF"))

    assert rejection.reason is Reason.UNDECODABLE
    assert rejection.error.endswith("send it as .npy (input.codec: npy)")
