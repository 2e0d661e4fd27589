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
    "temperature": 1.0,
    "map_version": 1,
    "seed": 0,
    "dimension": 2048,
}
OF_THE_PARTS = "sha256:986baa69753c8ef4a07840bebb14e934deb9e9686d71235f7239cc32e23d275b"
"""What lists of these parts carry since before there was a temperature."""


def test_fingerprint_is_a_named_hash() -> None:
    """sha256: and 64 hex digits, the same for the same parts."""
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", fingerprint(**PARTS))
    assert fingerprint(**PARTS) == fingerprint(**PARTS)


OTHERS: list[tuple[str, object]] = [
    ("weights_digest", "cd" * 32),
    ("factory", "my_models:build"),
    ("kwargs", {"image_size": 32, "channels": 1}),
    ("codec", {"type": "image", "mode": "RGB", "size": None}),
    ("classes", ("b", "a")),
    ("classes", None),
    ("layers", {"last": 3, "names": None}),
    ("layers", {"last": None, "names": ["classifier.*"]}),
    ("loss", "pseudo"),
    ("loss", "energy"),
    ("loss", "entropy"),
    ("temperature", 2.0),
    ("map_version", 2),
    ("seed", 1),
    ("dimension", 4096),
]


def test_fingerprint_changes_with_each_part() -> None:
    """Vectors of two fingerprints are not comparable; every part is tried, and every two differ."""
    fingerprints = {fingerprint(**{**PARTS, part: other}): (part, other) for part, other in OTHERS}

    assert list(fingerprints.values()) == OTHERS
    assert fingerprint(**PARTS) not in fingerprints
    assert {part for part, _ in OTHERS} == set(PARTS) == set(inspect.signature(fingerprint).parameters)


def test_fingerprint_does_not_depend_on_the_order_of_keys_or_the_kind_of_sequence() -> None:
    """The same settings from another file are the same."""
    same = {"kwargs": {"channels": 1, "image_size": 28}, "classes": ["a", "b"]}

    assert fingerprint(**{**PARTS, **same}) == fingerprint(**PARTS)


def test_fingerprint_does_not_take_what_changes_no_vector() -> None:
    """τ, the norm floor and the batches decide over vectors; tile and device change last bits only."""
    others = {"threshold", "min_gradient_norm", "tile", "device", "batch"}

    assert not others & set(inspect.signature(fingerprint).parameters)


def test_value_that_json_cannot_hold_is_an_error() -> None:
    """NaN would have as many hashes as spellings."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        fingerprint(**{**PARTS, "kwargs": {"dropout": float("nan")}})


def test_temperature_of_1_leaves_the_fingerprint_of_older_lists() -> None:
    """It came later than the lists that exist: at 1 it is not among the parts, and 2 is the same number as 2.0."""
    older = {name: part for name, part in PARTS.items() if name != "temperature"}

    assert fingerprint(**PARTS) == fingerprint(**older) == OF_THE_PARTS
    assert fingerprint(**{**PARTS, "temperature": 2}) == fingerprint(**{**PARTS, "temperature": 2.0})
