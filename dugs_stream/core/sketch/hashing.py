"""Seeded, balanced hash: the bucket and the sign of each index of a parameter's axis.

Integer arithmetic alone: the same map on every device and release, and `MAP_VERSION` names the rule. Balanced: the d
indices are dealt out to the k buckets in a random order, like cards. Plain random hashes let two of ten class coordinates
collide now and then, which makes the error of a sketch depend on its seed.

Source: splitmix64 (Steele, Lea & Flood 2014) over a SHA-256 key, as a counter-based generator.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAP_VERSION = 1
"""Changes whenever the same seed would give another map; part of every fingerprint."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


@dataclass(frozen=True, eq=False)
class AxisHash:
    """The map of one axis of length d into k buckets.

    buckets  (d,) int64 in [0, k); each bucket gets ⌊d/k⌋ or ⌈d/k⌉ indices
    signs    (d,) int8, +1 or −1
    """

    buckets: NDArray[np.int64]
    signs: NDArray[np.int8]


def hash_axis(seed: int, name: str, axis: int, length: int, dimension: int) -> AxisHash:
    """The balanced hash of `length` indices of the named parameter's axis into `dimension` buckets."""
    order = np.argsort(_stream(seed, name, axis, "order", length), kind="stable")
    # If k does not divide d, the last round of dealing is short: which buckets it reaches is random too.
    columns = np.argsort(_stream(seed, name, axis, "column", dimension), kind="stable")
    buckets = np.empty(length, dtype=np.int64)
    buckets[order] = columns[np.arange(length, dtype=np.int64) % dimension]
    top_bits = _stream(seed, name, axis, "sign", length) >> np.uint64(63)
    return AxisHash(buckets, (1 - 2 * top_bits.astype(np.int8)).astype(np.int8))


def _stream(seed: int, name: str, axis: int, purpose: str, length: int) -> NDArray[np.uint64]:
    """The first `length` numbers, uint64, of the stream named by seed, parameter, axis and purpose."""
    words = f"dugs-map-{MAP_VERSION}\0{seed}\0{name}\0{axis}\0{purpose}".encode()
    key = np.uint64(int.from_bytes(hashlib.sha256(words).digest()[:8], "little"))
    with np.errstate(over="ignore"):  # arithmetic modulo 2^64 is the point
        return _splitmix64(key + _GOLDEN * np.arange(1, length + 1, dtype=np.uint64))


def _splitmix64(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    state = (state ^ (state >> np.uint64(30))) * _MIX_1
    state = (state ^ (state >> np.uint64(27))) * _MIX_2
    return state ^ (state >> np.uint64(31))
