"""Image codec: an encoded image as float32 C×H×W in 0…1, by Pillow, in one fixed order of steps.

decode → turn by the EXIF orientation → to the colour mode → resize, crop → scale to 0…1 → (x - mean) / std.

- Transparency is laid over white, as viewers show it (mode RGBA keeps it as the fourth channel).
- 16-bit grey keeps its 16 bits, in PNG and TIFF as in PGM (where any maxval is full white); 16-bit colour is read by
  Pillow at 8 bits. A 32-bit image has no fixed range to scale from and is rejected: send it as .npy.
- Of an animation the first frame is read.
- Only the formats in FORMATS are read; of the others that Pillow knows, one (EPS) runs a program.
- Only pixels decide. A file that Pillow refuses is read once more without its metadata (`image_containers`), and a
  number that is wrong in EXIF matters only if it is the orientation's own; one that cannot be read turns nothing.
- An image above 89 478 485 pixels, Pillow's default limit against decompression bombs, is rejected, and a truncated
  one too, also where other code of the process has set Pillow to take them (`pillow_switches`).
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from dugs_stream.inputs import netpbm
from dugs_stream.inputs.codec import Shape, undecodable, wrong_shape
from dugs_stream.inputs.image_containers import PixelsAlone, pixels_alone
from dugs_stream.inputs.image_resize import fitted
from dugs_stream.inputs.pillow_switches import MOST_PIXELS, as_delivered
from dugs_stream.inputs.settings import ImageCodecSettings
from dugs_stream.records import Rejection

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
_SIXTEEN_BITS = 65535.0
_EIGHT_BITS = 255.0
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How to stand a picture upright, by its EXIF orientation."""


@dataclass(frozen=True, slots=True)
class ImageCodec:
    """Reads PNG, JPEG, WebP, GIF, BMP, TIFF and PPM; see the module for what happens to each kind of image."""

    settings: ImageCodecSettings

    def decode(self, value: bytes, expected_shape: Shape | None) -> torch.Tensor | Rejection:
        """float32 (channels, height, width), or the rejection."""
        with as_delivered():
            outcome = self._attempt(PixelsAlone(value), expected_shape)
            if isinstance(outcome, Exception) and not isinstance(outcome, _BOMBS):
                bare = pixels_alone(value)
                outcome = outcome if bare is None else self._attempt(bare, expected_shape)
        return _refused(outcome, value) if isinstance(outcome, Exception) else outcome

    def _attempt(
        self, picture: PixelsAlone, expected_shape: Shape | None
    ) -> torch.Tensor | Rejection | Exception:
        """The tensor, the rejection, or what Pillow raised."""
        try:
            with Image.open(io.BytesIO(picture.file), formats=FORMATS) as image:
                image.info.update(picture.info)
                refused = _too_many_pixels(image) or self._other_size(image, expected_shape)
                return refused or self._tensor(netpbm.scaled(image, picture.file) or _upright(image))
        except MemoryError:
            raise  # the size is within the limits above, so the machine lacks memory and the record is not to blame
        except Exception as exc:  # noqa: BLE001 (Pillow's decoders raise any kind of error over damaged bytes)
            return exc

    def _other_size(self, image: Image.Image, expected_shape: Shape | None) -> Rejection | None:
        """Refuse by the header alone, before the pixels cost anything; turning may swap the sides."""
        shape = (self.settings.channels, image.height, image.width)
        turned = (self.settings.channels, image.width, image.height)
        is_resized = (self.settings.sides or self.settings.resize) is not None
        if is_resized or expected_shape is None or expected_shape in (shape, turned):
            return None
        return wrong_shape(shape, expected_shape)

    def _tensor(self, image: Image.Image) -> torch.Tensor | Rejection:
        converted = _converted(image, self.settings.mode)
        if isinstance(converted, Rejection):
            return converted
        planes = self._by_channel(np.asarray(fitted(converted, self.settings)))
        # The numbers are made in their final order: bytes are put into it in a quarter of the time.
        scaled: NDArray[np.float32] = np.divide(planes, np.float32(_EIGHT_BITS), dtype=np.float32)
        return torch.from_numpy(self._normalised(scaled))

    def _by_channel(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """(h, w) or (h, w, c) → (c, h, w), in that order in memory; a grey plane stands for each colour, with full opacity."""
        if pixels.ndim == 3:  # noqa: PLR2004 (height, width and channels)
            return np.ascontiguousarray(pixels.transpose(2, 0, 1))
        planes = [pixels] * self.settings.channels
        if self.settings.mode == "RGBA":
            planes[3] = np.full_like(pixels, _EIGHT_BITS)
        return np.stack(planes)

    def _normalised(self, planes: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.settings.mean is not None:
            planes -= np.asarray(self.settings.mean, np.float32)[:, None, None]
        if self.settings.std is not None:
            planes /= np.asarray(self.settings.std, np.float32)[:, None, None]
        return planes


_START = 32
_OTHERS = {
    "an AVIF image": b"ftypavi",
    "a HEIC image": b"ftyphei",
    "a HEIF image": b"ftypmif1",
    "a JPEG XL image": b"\x00\x00\x00\x0cJXL ",
    "a JPEG 2000 image": b"\x00\x00\x00\x0cjP  ",
    "an SVG drawing": b"<svg",
    "a PDF document": b"%PDF-",
    "a .npy array": b"\x93NUMPY",
}
"""What is often sent for a picture, by bytes near the beginning."""
_OWN: dict[str, tuple[bytes, ...]] = {
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "JPEG": (b"\xff\xd8\xff",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "TIFF": (b"II*\x00", b"MM\x00*"),
}
"""The formats that are read, by first bytes that are theirs alone: what begins so and cannot be opened is damaged."""
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)


def _refused(exc: Exception, value: bytes) -> Rejection:
    if isinstance(exc, _BOMBS):
        return undecodable(f"possible decompression bomb: {exc}")
    if isinstance(exc, UnidentifiedImageError):
        other = next((name for name, start in _OTHERS.items() if start in value[:_START]), None)
        if other is not None:
            return undecodable(
                f"{other}, which is not read; convert it ({', '.join(FORMATS)}), or name a codec of your own"
            )
        own = next((name for name, start in _OWN.items() if value.startswith(start)), None)
        if own is not None:
            return undecodable(
                f"a damaged or truncated {own}, or a kind of it that is not read ({len(value)} bytes)"
            )
        return undecodable(
            f"not an image of a known format ({', '.join(FORMATS)}): starts with {value[:8]!r}"
        )
    return undecodable(f"damaged image: {type(exc).__name__}: {exc}")


def _too_many_pixels(image: Image.Image) -> Rejection | None:
    if image.width * image.height <= MOST_PIXELS:
        return None
    return undecodable(
        f"possible decompression bomb: {image.width}×{image.height} pixels, more than the {MOST_PIXELS} that are read"
    )


def _upright(image: Image.Image) -> Image.Image:
    """The picture turned by its EXIF orientation. ImageOps.exif_transpose would also write all EXIF numbers again."""
    image.load()  # a TIFF is turned here, by Pillow itself
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 (damaged EXIF raises any kind of error, and says nothing about pixels)
        turn = None
    return image if turn is None else image.transpose(turn)


def _converted(image: Image.Image, mode: str) -> Image.Image | Rejection:
    """The image in `mode`, or as one plane of floats in 0…255 if it is 16-bit grey."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        # Pillow scales a PGM of any maxval above 255 to 0…65535, and has it as 32-bit numbers
        grey = np.asarray(image).astype(np.float32) * np.float32(_EIGHT_BITS / _SIXTEEN_BITS)
        return Image.fromarray(grey)
    if image.mode in {"I", "F"}:
        return undecodable(
            "a 32-bit image has no fixed range to scale to 0…1; send it as .npy (input.codec: npy)"
        )
    if image.has_transparency_data and mode != "RGBA":
        ground = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(ground, image.convert("RGBA"))
    return image.convert(mode)
