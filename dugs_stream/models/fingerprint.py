"""Fingerprint: one hash over everything that a cosine depends on.

Vectors of one fingerprint are comparable, so two runs with the same one may share an index. In it: the weights, the
factory with its arguments, the decoding of a record, the classes, the layers, the loss, the map and its seed, k. Not
in it: τ, the norm floor and the batch limits, which change decisions but no vector, and the tile and the device,
which change a vector's last bits only. The user's own code is recorded beside it (`own_code`). Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from dugs_stream.canonical_json import canonical_json


def fingerprint(
    *,
    weights_digest: str,
    factory: str,
    kwargs: Mapping[str, Any],
    codec: Mapping[str, Any],
    classes: Sequence[str] | None,
    layers: int | Sequence[str] | Mapping[str, Any],
    loss: str,
    temperature: float = 1.0,
    map_version: int,
    seed: int,
    dimension: int,
) -> str:
    """The hash, "sha256:" and 64 hex digits, over the canonical JSON of the parts; the order of keys does not matter.

    The temperature of the loss is a part if it is not 1: lists that began before there was one keep their fingerprint.

    Raises TypeError or ValueError for a value that JSON cannot hold.
    """
    parts: dict[str, Any] = {
        "weights": weights_digest,
        "factory": factory,
        "kwargs": kwargs,
        "codec": codec,
        "classes": None if classes is None else list(classes),
        "layers": list(layers) if isinstance(layers, tuple) else layers,
        "loss": loss,
        "map_version": map_version,
        "seed": seed,
        "dimension": dimension,
    }
    if temperature != 1:
        parts["temperature"] = float(temperature)
    return "sha256:" + hashlib.sha256(canonical_json(parts)).hexdigest()
