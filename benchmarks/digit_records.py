"""Which records do both sides get? The same samples twice: as messages for a log, and decoded for a loop.

Messages are real digits as PNG, each padded to 4 096 bytes by a comment chunk; or small noise, for a quick run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin
from torch import Tensor

from benchmarks.workload import DIGIT_MODEL, TOY_MODEL, Toy, digit_weights
from dugs_stream.lab.demo.digits import load_digits
from dugs_stream.records import Message

RECORD_BYTES = 4_096


@dataclass(frozen=True, slots=True)
class Stream:
    """The same samples twice: as records for a log, as tensors for a loop; and the model for both."""

    messages: Sequence[Message]
    inputs: Tensor
    labels: Tensor
    model: Mapping[str, Any]


def digit_stream(records: int) -> Stream:
    """Digits that the trained AlexNet has not seen."""
    digits = load_digits().stream.part(0, records)
    return _stream(digits.images, digits.labels, {**DIGIT_MODEL, "weights": str(digit_weights())})


def toy_stream(records: int, seed: int) -> Stream:
    """Noise for the toy model."""
    generator = np.random.default_rng(seed)
    images = generator.integers(256, size=(records, *Toy.input_shape[1:]), dtype=np.uint8)
    return _stream(images, generator.integers(4, size=records), TOY_MODEL)


def _stream(images: NDArray[np.uint8], labels: NDArray[np.int64], model: Mapping[str, Any]) -> Stream:
    messages = [
        Message(str(number).encode(), _padded_png(image), (("label", str(label).encode()),))
        for number, (image, label) in enumerate(zip(images, labels, strict=True))
    ]
    inputs = torch.from_numpy(images).unsqueeze(1).float() / 255  # as the image codec yields them
    return Stream(messages, inputs, torch.from_numpy(labels), model)


def _padded_png(image: NDArray[np.uint8]) -> bytes:
    """The image as PNG, exactly `RECORD_BYTES` long: a digit alone takes about 300 bytes."""
    missing = RECORD_BYTES - len(_png(image, ""))
    return _png(image, " " * missing)


def _png(image: NDArray[np.uint8], comment: str) -> bytes:
    chunk = PngImagePlugin.PngInfo()
    chunk.add_text("Comment", comment)
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "PNG", pnginfo=chunk)
    return buffer.getvalue()
