"""Image codec: an encoded image as float32 C×H×W in 0…1, by Pillow, in one fixed order of steps.

decode → turn by the EXIF orientation → to the colour mode → resize → scale to 0…1 → (x - mean) / std.

- Transparency is laid over white, as viewers show it (mode RGBA keeps it as the fourth channel).
- 16-bit grey keeps its 16 bits; 16-bit colour is read by Pillow at 8 bits. A 32-bit image has no fixed
  range to scale from and is rejected: send it as .npy.
- Of an animation the first frame is read.
- Only the formats in FORMATS are read; of the others that Pillow knows, one (EPS) runs a program.
- An image above Pillow's own limit against decompression bombs (89 478 485 pixels) is rejected. Pillow only
  warns above that size, and raises above twice that size.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from dugs_stream.inputs.codec import Shape, undecodable, wrong_shape
from dugs_stream.inputs.settings import ImageCodecSettings
from dugs_stream.records import Rejection

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
_SIXTEEN_BITS = 65535.0
_EIGHT_BITS = 255.0


@dataclass(frozen=True, slots=True)
class ImageCodec:
    """Reads PNG, JPEG, WebP, GIF, BMP, TIFF and PPM; see the module for what happens to each kind of image."""

    settings: ImageCodecSettings

    def decode(self, value: bytes, expected_shape: Shape | None) -> torch.Tensor | Rejection:
        """float32 (channels, height, width), or the rejection."""
        try:
            with Image.open(io.BytesIO(value), formats=FORMATS) as image:
                refused = _too_many_pixels(image) or self._other_size(image, expected_shape)
                return refused or self._tensor(image)
        except UnidentifiedImageError:
            return undecodable(
                f"not an image of a known format ({', '.join(FORMATS)}): starts with {value[:8]!r}"
            )
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
            return undecodable(f"possible decompression bomb: {exc}")
        except MemoryError:
            raise  # the size is within the limits above, so the machine lacks memory and the record is not to blame
        except Exception as exc:  # noqa: BLE001 (Pillow's decoders raise any kind of error over damaged bytes)
            return undecodable(f"damaged image: {type(exc).__name__}: {exc}")

    def _other_size(self, image: Image.Image, expected_shape: Shape | None) -> Rejection | None:
        """Refuse by the header alone, before the pixels cost anything; turning may swap the sides."""
        shape = (self.settings.channels, image.height, image.width)
        turned = (self.settings.channels, image.width, image.height)
        if self.settings.size is not None or expected_shape is None or expected_shape in (shape, turned):
            return None
        return wrong_shape(shape, expected_shape)

    def _tensor(self, image: Image.Image) -> torch.Tensor | Rejection:
        turned = ImageOps.exif_transpose(image)
        converted = _converted(turned, self.settings.mode)
        if isinstance(converted, Rejection):
            return converted
        if self.settings.size is not None:
            height, width = self.settings.size
            converted = converted.resize((width, height), Image.Resampling.BILINEAR)
        pixels = np.asarray(converted, dtype=np.float32) / np.float32(_EIGHT_BITS)
        return torch.from_numpy(self._normalised(self._by_channel(pixels)))

    def _by_channel(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """(h, w) or (h, w, c) → (c, h, w); a grey plane stands for each colour, with full opacity."""
        if pixels.ndim == 3:  # noqa: PLR2004 (height, width and channels)
            return pixels.transpose(2, 0, 1)
        planes = [pixels] * self.settings.channels
        if self.settings.mode == "RGBA":
            planes[3] = np.ones_like(pixels)
        return np.stack(planes)

    def _normalised(self, planes: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.settings.mean is not None:
            planes = planes - np.asarray(self.settings.mean, np.float32)[:, None, None]
        if self.settings.std is not None:
            planes = planes / np.asarray(self.settings.std, np.float32)[:, None, None]
        return np.ascontiguousarray(planes)


def _too_many_pixels(image: Image.Image) -> Rejection | None:
    limit = Image.MAX_IMAGE_PIXELS
    if limit is None or image.width * image.height <= limit:
        return None
    return undecodable(
        f"possible decompression bomb: {image.width}×{image.height} pixels, more than the {limit} that are read"
    )


def _converted(image: Image.Image, mode: str) -> Image.Image | Rejection:
    """The image in `mode`, or as one plane of floats in 0…255 if it is 16-bit grey."""
    if image.mode.startswith("I;16"):
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
