"""The map of some parameters as numbers, to be held against those of earlier releases.

`python -m tests.unit.core.sketch.golden_map` writes the file anew: only for a new `MAP_VERSION`.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dugs_stream.core.sketch.count_sketch import Sketch
from dugs_stream.core.sketch.hashing import MAP_VERSION, hash_axis

FILE = Path(__file__).parent / "data" / f"map-{MAP_VERSION}.json"

PARAMETERS = [
    (0, "fc.weight", (10, 640), 512),
    (7, "model.layers.3.self_attn.q_proj.weight", (64, 48), 2048),
    (2**40 + 1, "conv.weight", (8, 3, 3, 3), 100),
    (3, "norm.bias", (300,), 64),
    (0, "schädel.gewicht", (5, 7), 1),
    (1, "scale", (), 16),
]
"""Seed, name, shape and k each."""


def entries() -> list[dict[str, Any]]:
    """What the file holds: hashes of buckets and signs of both axes, and the vector of one small gradient."""
    return [_entry(*parameter) for parameter in PARAMETERS]


def gradient(shape: tuple[int, ...]) -> torch.Tensor:
    """A gradient that is the same on every machine: multiples of 1/64 without a generator."""
    numbers = torch.arange(math.prod(shape), dtype=torch.float64)
    return ((numbers * 37 % 101 - 50) / 64).reshape(shape)


def _entry(seed: int, name: str, shape: tuple[int, ...], k: int) -> dict[str, Any]:
    lengths = [shape[0] if shape else 1] + ([math.prod(shape[1:])] if len(shape) > 1 else [])
    axes = [hash_axis(seed, name, axis, length, k) for axis, length in enumerate(lengths)]
    vector = Sketch(seed, k, torch.device("cpu")).parameter(name, shape).dense(gradient(shape)[None])[0]
    return {
        "seed": seed,
        "name": name,
        "shape": list(shape),
        "k": k,
        "buckets": [_digest(axis.buckets.astype("<i8")) for axis in axes],
        "signs": [_digest(axis.signs.astype("<i1")) for axis in axes],
        "first_buckets": [axis.buckets[:4].tolist() for axis in axes],
        "norm": float(vector.norm()),
        "first_numbers": [[int(at), float(vector[at])] for at in vector.nonzero()[:6, 0]],
    }


def _digest(values: np.ndarray) -> str:
    return hashlib.sha256(values.tobytes()).hexdigest()[:32]


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(json.dumps(entries(), indent=1, ensure_ascii=False) + "\n")
