"""CountSketch of one axis: the numbers along it gathered, signed, into k buckets."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dugs_stream.core.sketch.hashing import hash_axis
from dugs_stream.core.sketch.scratch import Scratch

_GATHER_ROWS = 16
"""Numbers of a bucket gathered at once, so that an axis much longer than k takes no more memory than a few sketches."""

MANY_TERMS = 16
"""Terms from which on one sum for each sample is quicker than halving them all."""


class AxisSketch:
    """Balanced CountSketch of an axis of length d as a gather: (…, d) → (…, k)."""

    def __init__(
        self, seed: int, name: str, axis: int, length: int, dimension: int, device: torch.device
    ) -> None:
        hashed = hash_axis(seed, name, axis, length, dimension)
        self.length = length
        self.dimension = dimension
        self.buckets = hashed.buckets
        self.signs = hashed.signs
        self._buckets = torch.from_numpy(hashed.buckets).to(device)
        self._signs = torch.from_numpy(hashed.signs).to(device)
        places, signs = _gather_table(hashed.buckets, hashed.signs, dimension)
        # Some numbers of each bucket at once: an axis much longer than k takes no more memory than a few sketches.
        self._tables = [
            (
                torch.from_numpy(places[some].ravel()).to(device),
                torch.from_numpy(signs[some].ravel()).to(device),
            )
            for some in (slice(at, at + _GATHER_ROWS) for at in range(0, len(places), _GATHER_ROWS))
        ]
        self._rows_by_bucket: list[Tensor] | None = None

    def sketch(self, values: Tensor) -> Tensor:
        """Values (…, d) → (…, k)."""
        flat = values.reshape(-1, self.length)
        return self._sketch(flat).view(*values.shape[:-1], self.dimension)

    def sketch_in(self, scratch: Scratch, values: Tensor) -> Tensor:
        """The same in memory of `scratch`, valid until its next call."""
        if self.length > self.dimension:
            return self.sketch(values)
        flat = values.reshape(-1, self.length)
        sums = scratch.take("sketched", flat, len(flat), self.dimension)
        if self.is_sparse:
            signed = scratch.take("signed", flat, *flat.shape)
            torch.mul(flat, self._signs.to(flat.dtype), out=signed)
            sums.zero_().index_copy_(1, self._buckets, signed)  # a bucket has one number at most
        else:
            self._gather(flat, 0, sums)
        return sums.view(*values.shape[:-1], self.dimension)

    @property
    def is_sparse(self) -> bool:
        """Whether most buckets stay empty, and none gets more than one number."""
        return 4 * self.length <= self.dimension

    def signed(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """The buckets (d,) of values (…, d), and the values with their signs."""
        return self._buckets, values * self._signs.to(values.dtype)

    def _sketch(self, flat: Tensor) -> Tensor:
        if self.is_sparse:  # no order of additions
            buckets, signed = self.signed(flat)
            return flat.new_zeros(len(flat), self.dimension).index_add_(1, buckets, signed)
        sums: Tensor | None = None
        for at, (places, _) in enumerate(self._tables):
            gathered = flat.new_empty(len(flat), len(places))
            self._gather(flat, at, gathered)
            if len(places) > self.dimension:
                gathered = pairwise_sum(gathered.view(len(flat), -1, self.dimension), axis=1)
            sums = gathered if sums is None else sums.add_(gathered)
        assert sums is not None  # noqa: S101 -- an axis this long has a table
        return sums

    def _gather(self, flat: Tensor, table: int, gathered: Tensor) -> None:
        """The signed numbers that this table names, a row each of `flat` and `gathered`."""
        places, signs = self._tables[table]
        if signs.dtype != flat.dtype:
            signs = signs.to(flat.dtype)
            self._tables[table] = places, signs
        torch.index_select(flat, 1, places, out=gathered)
        gathered *= signs

    def sketch_first(self, values: Tensor) -> Tensor:
        """Values (d, n) → (k, n): rows added up, which is quicker than numbers gathered where n is large."""
        if self._rows_by_bucket is None:
            places, offsets = sorted_by_bucket(self.buckets, self.dimension)
            signs = self.signs[places].astype(np.float64)
            self._rows_by_bucket = [
                torch.from_numpy(each).to(values.device)
                for each in (places.astype(np.int32), offsets.astype(np.int32), signs)
            ]
        places_in_order, starts, signs_in_order = self._rows_by_bucket
        return torch.nn.functional.embedding_bag(
            places_in_order,
            values,
            starts,
            mode="sum",
            include_last_offset=True,
            per_sample_weights=signs_in_order.to(values.dtype),
        )


def position_sum(values: Tensor) -> Tensor:
    """Σ over the positions of values (m, t, …) → (m, …), the bits of each sample its own."""
    if values.device.type != "cpu" or values.shape[1] < MANY_TERMS:
        return pairwise_sum(values, axis=1)
    if all(values.stride(0) > stride for stride in values.stride()[1:]):
        return values.sum(dim=1)
    # Each sample alone: numbers of several that lie side by side are added in an order that depends on their place.
    return torch.stack([sample.sum(dim=0) for sample in values])


def pairwise_sum(values: Tensor, axis: int) -> Tensor:
    """Σ along an axis of at least one entry, by halving: elementwise additions only, so that no sum's bits depend on others.

    Rounding error O(ε·log length).
    """
    length = values.shape[axis]
    while length > 1:
        half = length // 2
        folded = values.narrow(axis, 0, half) + values.narrow(axis, half, half)
        if length % 2:
            folded.narrow(axis, 0, 1).add_(values.narrow(axis, length - 1, 1))
        values, length = folded, half
    return values.squeeze(axis)


def _gather_table(
    buckets: NDArray[np.int64], bucket_signs: NDArray[np.int8], dimension: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The places (w, k) that fall into each bucket, a column each, and their signs; 0 where a bucket has fewer."""
    order, offsets = sorted_by_bucket(buckets, dimension)
    counts = np.diff(offsets)
    depth = int(counts.max(initial=0))
    places = np.zeros((depth, dimension), dtype=np.int32)
    signs = np.zeros((depth, dimension), dtype=np.float32)
    owners = np.repeat(np.arange(dimension), counts)
    ranks = np.arange(len(order)) - offsets[owners]
    places[ranks, owners] = order
    signs[ranks, owners] = bucket_signs[order]
    return places, signs


def sorted_by_bucket(
    buckets: NDArray[np.int64], dimension: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The places (n,) in order of their buckets, and where each bucket begins, (k + 1,)."""
    # 16-bit keys sort by radix: 0.1 s for 10^7 entries, a comparison sort takes 1 s.
    keys = buckets.astype(np.uint16) if dimension <= 1 << 16 else buckets
    offsets = np.zeros(dimension + 1, dtype=np.int64)
    np.cumsum(np.bincount(buckets, minlength=dimension), out=offsets[1:])
    return np.argsort(keys, kind="stable"), offsets
