"""Made-up records in the form that the settings name, to measure with where the input topic has none."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence

import numpy as np
from PIL import Image

from dugs_stream.config import Settings
from dugs_stream.inputs.settings import (
    CustomCodecSettings,
    ImageCodecSettings,
    LabelKind,
    NpyCodecSettings,
    TextCodecSettings,
    parse_label_place,
)
from dugs_stream.records import Record

_PHOTO = (375, 500)
"""Rows and columns of a picture whose size the codec changes; as JPEG some 50 KB."""
_WORDS = 60


def made_up_records(settings: Settings, shape: Sequence[int] | None, count: int) -> list[Record]:
    """So many of them; none if nothing is known of the form: a codec of one's own, an envelope, an unknown shape.

    Every label is class 0. The numbers are drawn under a fixed seed.
    """
    generator = np.random.default_rng(0)
    records: list[Record] = []
    for offset in range(count if not settings.input.envelope else 0):
        value = _value(settings, shape, generator)
        if value is None:
            return []
        place = parse_label_place(settings.input.label)
        headers = ((place.name, b"0"),) if place.kind is LabelKind.HEADER else ()
        key = b"0" if place.kind is LabelKind.KEY else None
        records.append(Record(key, value, headers, topic=settings.input.topic, partition=0, offset=offset))
    return records


def _value(settings: Settings, shape: Sequence[int] | None, generator: np.random.Generator) -> bytes | None:
    codec = settings.input.codec
    if isinstance(codec, CustomCodecSettings):
        return None
    if isinstance(codec, ImageCodecSettings):
        return _picture(codec, shape, generator)
    if isinstance(codec, TextCodecSettings):
        text = " ".join(f"{number:x}" for number in generator.integers(2**20, size=_WORDS))
        return text.encode() if codec.field is None else _document(settings, codec.field, text)
    if shape is None:
        return None
    numbers = generator.integers(2, size=shape) if codec.dtype == "int64" else generator.random(shape)
    if isinstance(codec, NpyCodecSettings):
        stream = io.BytesIO()
        np.save(stream, numbers.astype(codec.dtype))
        return stream.getvalue()
    return _document(settings, codec.field, numbers.tolist())


def _picture(codec: ImageCodecSettings, shape: Sequence[int] | None, generator: np.random.Generator) -> bytes:
    is_resized = codec.size is not None or codec.resize is not None or codec.preprocessing is not None
    rows, columns = _PHOTO if is_resized or shape is None else (shape[-2], shape[-1])
    coarse = generator.integers(256, size=(max(1, rows // 8), max(1, columns // 8), 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(coarse).resize((columns, rows), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def _document(settings: Settings, field: str, content: object) -> bytes:
    """A JSON object with the content, and the label if it stands in there too."""
    place = parse_label_place(settings.input.label)
    label = {place.name: 0} if place.kind is LabelKind.JSON else {}
    return json.dumps({field: content, **label}).encode()
