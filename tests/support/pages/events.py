"""Small records to show: events as the daemon writes them, and pictures to go with them."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from PIL import Image


def event(offset: int, verdict: str, **fields: Any) -> dict[str, Any]:
    """An event with every field of the contract; those not given are null."""
    key = fields.pop("key", f"k{offset}")
    topic = fields.pop("topic", "samples")
    source = {"topic": topic, "partition": 0, "offset": offset, "key": key, "timestamp": None}
    nulls = dict.fromkeys(("sequence", "similarity", "nearest", "gradient_norm", "label", "label_source"))
    model = {"name": "alexnet", "fingerprint": "sha256:00"}
    made = {"id": f"{topic}/0/{offset}", "type": verdict, "source": source, "threshold": 0.3, "model": model}
    return nulls | made | fields


def unique_event(offset: int, sequence: int, label: int = 0, **fields: Any) -> dict[str, Any]:
    """A unique; every one but the first came nearest to the first."""
    nearest = None if sequence == 0 else {"sequence": 0, "id": f"{fields.get('topic', 'samples')}/0/0"}
    similarity = None if sequence == 0 else 0.1
    facts = {"sequence": sequence, "similarity": similarity, "nearest": nearest, "gradient_norm": 1.5}
    return event(offset, "unique", **(facts | {"label": label} | fields))


def duplicate_event(offset: int, of: int, similarity: float, **fields: Any) -> dict[str, Any]:
    """A duplicate of the unique with that sequence number."""
    nearest = {"sequence": of, "id": f"samples/0/{of}"}
    return event(offset, "duplicate", similarity=similarity, nearest=nearest, gradient_norm=1.0, **fields)


def encoded_picture(
    width: int = 4, height: int = 4, mode: str = "L", kind: str = "PNG", colour: int | str = 255
) -> bytes:
    """An encoded picture of one colour."""
    buffer = BytesIO()
    Image.new(mode, (width, height), colour).save(buffer, kind)
    return buffer.getvalue()
