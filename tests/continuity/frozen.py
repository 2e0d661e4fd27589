"""The frozen deployment as plain files: where each lies, and how to read it without any code of the package.

The embedded log is read by SQL and the headers are unpacked here, so that the form of the file is held as well.
"""

from __future__ import annotations

import base64
import json
import sqlite3
import struct
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file

__all__ = [
    "DATA",
    "DIMENSION",
    "EXPLAINED",
    "FINGERPRINTED",
    "RUNS_ON",
    "TOPICS",
    "Record",
    "dump",
    "records_of",
    "undump",
    "write_plain_weights",
]

DATA = Path(__file__).parent / "data"

DIMENSION = 64

TOPICS = ("dugs.unique", "dugs.decisions", "dugs.dead-letter", "dugs.changelog")

RUNS_ON = ("continuity_model.py", "dugs.yaml", "weights.safetensors", "log.db", "state", "state-early")
"""What a folder must hold for `dugs` to go on in it."""

EXPLAINED = ("dugs.samples/0/0", "0/33", "0/43", "0/100")
"""Ids whose explanation is frozen."""

_UNLABELLED = ("input.classes=null", "input.label=none", "gradient.loss=pseudo")
_ALEXNET = (
    *_UNLABELLED,
    "model.factory=dugs_stream.models.alexnet:build",
    "model.kwargs={image_size: 8, channels: 1, classes: 4}",
    "model.weights=plain.safetensors",
)
FINGERPRINTED: Mapping[str, tuple[str, Sequence[str]]] = {
    "as frozen": ("png", ()),
    "other seed": ("png", ("gradient.seed=7",)),
    "other dimension": ("png", ("gradient.dimension=32",)),
    "named layers": ("png", ("gradient.layers={names: ['6']}",)),
    "no classes": ("png", _UNLABELLED),
    "normalised": ("png", ("input.codec={type: image, mode: L, mean: [0.5], std: [0.25]}",)),
    "npy": ("npy", ("input.codec=npy",)),
    "json": ("json", ("input.codec={type: json, field: pixels}",)),
    "alexnet": ("small", _ALEXNET),
}
"""A folder to scan and what to set beside dugs.yaml, of each fingerprint that is frozen."""

_LENGTH = struct.Struct("<i")


class Record(NamedTuple):
    """A record on a topic of the embedded log."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    timestamp_ms: int | None


def records_of(log: Path, topic: str) -> list[Record]:
    """Every record of a topic with one partition, in order."""
    with closing(sqlite3.connect(log)) as connection:
        lanes = connection.execute(
            "SELECT lanes.number FROM lanes JOIN topics ON topics.number = lanes.topic WHERE topics.name = ?",
            (topic,),
        ).fetchall()
        ((lane,),) = lanes
        rows = connection.execute(
            "SELECT place, key, value, headers, timestamp_ms FROM records WHERE place >> 40 = ? ORDER BY place",
            (lane,),
        ).fetchall()
    return [
        Record(place & (2**40 - 1), key, value, _unpacked(headers), timestamp)
        for place, key, value, headers, timestamp in rows
    ]


def _unpacked(packed: bytes | None) -> tuple[tuple[str, bytes | None], ...]:
    parts: list[bytes | None] = []
    at = 0
    while packed is not None and at < len(packed):
        (length,) = _LENGTH.unpack_from(packed, at)
        at += _LENGTH.size
        parts.append(None if length < 0 else packed[at : at + length])
        at += max(0, length)
    return tuple(((name or b"").decode(), value) for name, value in zip(parts[::2], parts[1::2], strict=True))


def dump(path: Path, records: Sequence[Record]) -> None:
    """Write records as a JSON array, one a line, bytes in base64."""
    lines = [
        json.dumps(
            {
                "offset": record.offset,
                "timestamp_ms": record.timestamp_ms,
                "key": _text(record.key),
                "value": _text(record.value),
                "headers": [[name, _text(value)] for name, value in record.headers],
            }
        )
        for record in records
    ]
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n")


def undump(path: Path) -> list[Record]:
    """The inverse of `dump`."""
    return [
        Record(
            entry["offset"],
            _bytes(entry["key"]),
            _bytes(entry["value"]),
            tuple((name, _bytes(value)) for name, value in entry["headers"]),
            entry["timestamp_ms"],
        )
        for entry in json.loads(path.read_text())
    ]


def _text(content: bytes | None) -> str | None:
    return None if content is None else base64.b64encode(content).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


def write_plain_weights(module: Any, path: Path) -> None:
    """Weights by a rule and not by chance: no release of PyTorch draws them otherwise."""
    state = module.state_dict()
    plain = {
        name: torch.full_like(tensor, 2.0 ** -(8 + number))
        for number, (name, tensor) in enumerate(state.items())
    }
    save_file(plain, path)
