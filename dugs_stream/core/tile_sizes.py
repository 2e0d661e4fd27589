"""Sizes of a tile in the order in which they are tried, and the first in which every place gives the same bits."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dugs_stream.core.projector import Projector
from dugs_stream.core.tile_trial import TileTrial
from dugs_stream.core.tiling import AutoTile, Timing, preferred

_SIZES_TRIED = 3
"""Sizes of a tile whose places are tried before slower paths are taken, or tiles of one."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of a tile in the order in which to take them.

    taken    the one with which the same finding is to be had again: what was taken, or what a tile of one stands in for
    timings  what they took, if they were measured
    kept_of  for one that an earlier process chose, the most that a tile may hold
    """

    wanted: tuple[int, ...]
    taken: int
    timings: tuple[Timing, ...] = ()
    kept_of: int | None = None

    def taking(self, size: int) -> Sizes:
        """The same after one was taken."""
        return replace(self, taken=size)


def sizes_to_try(tiles: TileTrial, tile: int | AutoTile) -> Sizes:
    """The sizes of a tile in the order in which to take them, measured if that is asked for."""
    if not isinstance(tile, AutoTile):
        return Sizes((tile,), tile)
    if tile.kept is not None:
        return Sizes((tile.kept,), tile.kept, kept_of=tile.most)
    timings = tiles.timings(tile)
    wanted = preferred(timings, tile.samples)
    return Sizes(tuple(wanted), wanted[0], tuple(timings))


def placed_in(tiles: TileTrial, projector: Projector, sizes: Sizes) -> tuple[Projector, Sizes] | None:
    """With the first of the sizes of which every place gives the same bits; None if there is none."""
    for size in sizes.wanted[:_SIZES_TRIED]:
        if size == 1 or tiles.place_is_irrelevant(size):
            if sizes.kept_of is not None:
                tiles.require_agreement(size, sizes.kept_of)
            return projector.in_tiles(size), sizes.taking(size)
    return None
