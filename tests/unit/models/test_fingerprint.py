"""The fingerprint changes with everything a cosine depends on, and with nothing else."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from dugs_stream.models.fingerprint import fingerprint

PARTS: dict[str, Any] = {
    "weights_digest": "ab" * 32,
    "factory": "dugs_stream.models.alexnet:build",
    "kwargs": {"image_size": 28, "channels": 1},
    "codec": {"type": "image", "mode": "L", "size": None},
    "classes": ("a", "b"),
    "layers": {"last": 2, "names": None},
    "loss": "label",
    "map_version": 1,
    "seed": 0,
    "dimension": 2048,
}


def test_fingerprint_is_a_named_hash() -> None:
    """sha256: and 64 hex digits, the same for the same parts."""
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", fingerprint(**PARTS))
    assert fingerprint(**PARTS) == fingerprint(**PARTS)


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ("weights_digest", "cd" * 32),
        ("factory", "my_models:build"),
        ("kwargs", {"image_size": 32, "channels": 1}),
        ("codec", {"type": "image", "mode": "RGB", "size": None}),
        ("classes", ("b", "a")),
        ("classes", None),
        ("layers", {"last": 3, "names": None}),
        ("layers", {"last": None, "names": ["classifier.*"]}),
        ("loss", "pseudo"),
        ("map_version", 2),
        ("seed", 1),
        ("dimension", 4096),
    ],
)
def test_fingerprint_changes_with_each_part(part: str, other: object) -> None:
    """Vectors of the two do not compare."""
    assert fingerprint(**{**PARTS, part: other}) != fingerprint(**PARTS)


def test_every_part_is_tried() -> None:
    """A part that is added is added above, too."""
    assert set(inspect.signature(fingerprint).parameters) == set(PARTS)


def test_fingerprint_does_not_depend_on_the_order_of_keys_or_the_kind_of_sequence() -> None:
    """The same settings from another file are the same."""
    same = {"kwargs": {"channels": 1, "image_size": 28}, "classes": ["a", "b"]}

    assert fingerprint(**{**PARTS, **same}) == fingerprint(**PARTS)


@pytest.mark.parametrize("part", ["threshold", "min_gradient_norm", "tile", "device", "batch"])
def test_fingerprint_does_not_take_what_changes_no_vector(part: str) -> None:
    """τ, the norm floor and the batches decide over vectors; tile and device change last bits only."""
    assert part not in inspect.signature(fingerprint).parameters


def test_value_that_json_cannot_hold_is_an_error() -> None:
    """NaN would have as many hashes as spellings."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        fingerprint(**{**PARTS, "kwargs": {"dropout": float("nan")}})
