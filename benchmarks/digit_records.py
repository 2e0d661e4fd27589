"""Which records do both sides get? The same samples twice: as messages for a log, and decoded for a loop.

Messages are real digits as PNG, or small noise for a quick run; each padded by a comment chunk if a size is given.
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
from dugs_stream.app.engine import build_engine
from dugs_stream.config import Settings
from dugs_stream.core.deduplicator import Deduplicator
from dugs_stream.lab.demo.digits import encode_png, load_digits
from dugs_stream.records import Message

RECORD_BYTES = 4_096


@dataclass(frozen=True, slots=True)
class Stream:
    """The same samples twice: as records for a log, as tensors for a loop; and the model for both."""

    messages: Sequence[Message]
    inputs: Tensor
    labels: Tensor
    model: Mapping[str, Any]


def digit_stream(records: int, record_bytes: int | None = RECORD_BYTES) -> Stream:
    """Digits that the trained AlexNet has not seen."""
    digits = load_digits().stream.part(0, records)
    model = {**DIGIT_MODEL, "weights": str(digit_weights())}
    return _stream(digits.images, digits.labels, model, record_bytes)


def toy_stream(records: int, seed: int, record_bytes: int | None = RECORD_BYTES) -> Stream:
    """Noise for the toy model."""
    generator = np.random.default_rng(seed)
    images = generator.integers(256, size=(records, *Toy.input_shape[1:]), dtype=np.uint8)
    return _stream(images, generator.integers(4, size=records), TOY_MODEL, record_bytes)


def engine_of(settings: Settings) -> Deduplicator:
    """The daemon's engine without a log around it."""
    projector = build_engine(settings).projector
    spec = projector.spec
    return Deduplicator(
        spec.model,
        spec.layers,
        dimension=spec.dimension,
        threshold=settings.selection.threshold,
        seed=spec.seed,
        device=spec.device,
        tile=projector.tile,
    )


def _stream(
    images: NDArray[np.uint8], labels: NDArray[np.int64], model: Mapping[str, Any], record_bytes: int | None
) -> Stream:
    messages = []
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        png = encode_png(image) if record_bytes is None else _padded_png(image, record_bytes)
        messages.append(Message(str(number).encode(), png, (("label", str(label).encode()),)))
    inputs = torch.from_numpy(images).unsqueeze(1).float() / 255  # as the image codec yields them
    return Stream(messages, inputs, torch.from_numpy(labels), model)


def _padded_png(image: NDArray[np.uint8], size: int) -> bytes:
    """The image as PNG, exactly so many bytes long: a digit alone takes about 300."""
    missing = size - len(_png(image, ""))
    return _png(image, " " * missing)


def _png(image: NDArray[np.uint8], comment: str) -> bytes:
    chunk = PngImagePlugin.PngInfo()
    chunk.add_text("Comment", comment)
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "PNG", pnginfo=chunk)
    return buffer.getvalue()
