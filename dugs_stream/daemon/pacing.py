"""Pacing: how many records the next micro-batch may hold, so that it ends in time and fits into memory.

Arithmetic on what was measured, without a clock. The smallest limit counts:

    time      whole tiles: target seconds ÷ seconds a tile, of the slowest of the last batches
    evidence  eight times the largest of the last batches; one tile before there was any
    memory    halved by every batch that ran out of memory, grown slowly by those that did not
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

# The slowest of this many batches sets the pace: one batch of small records must not bring back a limit that the
# next batch of large ones would overrun; a stream that has become faster counts sixteen batches later.
_REMEMBERED_BATCHES = 16
# One record in a tile costs what a full tile costs, but not its share of decoding: what a batch of one says is
# expected of eight, no more. From a tile of 32 to a batch of 256 that is one step.
_BELIEVED_FOR = 8
# A batch that took five times its target was half way to losing the input, however few its records were: the
# limit is halved as after running out of memory, below a tile if need be.
_FAR_TOO_LONG = 5
# The limit grows by an eighth once eight batches in a row were full and fitted: from a half back to the whole
# takes some fifty batches, so running out of memory again costs one batch in fifty at most.
_CALM_BATCHES = 8
_GROWTH = 1.125


class _Cost(NamedTuple):
    records: int
    seconds_a_tile: float


class Pacing:
    """The limit on a micro-batch's records, moved by what each batch cost.

    most            records that the configuration allows
    tile            records computed together: a batch costs its whole tiles
    target_seconds  what judging one batch may take; inf: without limit
    """

    def __init__(self, most: int, *, tile: int, target_seconds: float) -> None:
        if most < 1 or tile < 1 or not target_seconds > 0:
            raise ValueError(f"most {most}, tile {tile} and target_seconds {target_seconds} must be above 0")
        self._most = most
        self._tile = tile
        self._target_seconds = target_seconds
        self._costs: deque[_Cost] = deque(maxlen=_REMEMBERED_BATCHES)
        self._fitting = most
        self._calm = 0

    @property
    def records(self) -> int:
        """How many records the next micro-batch may hold, 1 … most."""
        return max(1, min(self._most, self._fitting, self._in_time()))

    def _in_time(self) -> int:
        if not self._costs:
            return self._tile
        slowest = max(cost.seconds_a_tile for cost in self._costs)
        largest = max(cost.records for cost in self._costs)
        believed = max(self._tile, _BELIEVED_FOR * largest)
        if slowest * math.ceil(believed / self._tile) <= self._target_seconds:
            return believed
        return max(1, int(self._target_seconds / slowest)) * self._tile

    def took(self, records: int, seconds: float) -> None:
        """A micro-batch of `records` was judged in `seconds`, committed or not."""
        if records < 1:
            return
        was_full = records >= self.records
        self._costs.append(_Cost(records, seconds / math.ceil(records / self._tile)))
        if seconds > _FAR_TOO_LONG * self._target_seconds:
            self._halve(records)
        elif was_full:  # a smaller batch says nothing of what a full one needs
            self._calm += 1
            if self._fitting < self._most and self._calm >= _CALM_BATCHES:
                self._fitting = min(self._most, math.ceil(self._fitting * _GROWTH))
                self._calm = 0

    def ran_out_of_memory(self, records: int) -> bool:
        """A micro-batch of `records` did not fit; False if it was a single one and cannot be halved."""
        self._halve(records)
        return records > 1

    def _halve(self, records: int) -> None:
        self._fitting = max(1, min(self._fitting, records) // 2)
        self._calm = 0
