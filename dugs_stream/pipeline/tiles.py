"""Tiles of each kind of samples: as many as the settings say, or as the first probe chose, which a later process keeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from dugs_stream.core.probe import Probe
from dugs_stream.core.tiling import AutoTile, TileChoice
from dugs_stream.pipeline.kinds import Kind

_AT_ONCE = 32
"""Samples that go to the model's projector in one call, if a tile holds fewer: a call has a price of its own."""


class Tiles:
    """How many samples of a kind are computed together.

    tile         a number, or the choice by what tiles take
    most_tokens  of texts so many tokens are computed together at most
    choice       what an earlier process chose for this list
    keep         is told a new choice, and gives the one that is in force: another process may have been first
    """

    def __init__(
        self,
        tile: int | AutoTile,
        most_tokens: int,
        choice: TileChoice | None = None,
        keep: Callable[[TileChoice], TileChoice] = lambda chosen: chosen,
    ) -> None:
        self._tile = tile
        self._most_tokens = most_tokens
        self._keep = keep
        self.choice = choice

    @property
    def usual(self) -> int:
        """What is expected of a kind that was not probed."""
        if self.choice is not None:
            return self.choice.tile
        return self._tile.usual if isinstance(self._tile, AutoTile) else self._tile

    def of(self, kind: Kind) -> int | AutoTile:
        """What the probe of a kind is asked for. Only the first is measured: what it has in numbers, others get too."""
        if not isinstance(self._tile, AutoTile):
            return kind.tile(self._tile, self._most_tokens)
        most = kind.tile(self._tile.most, self._most_tokens)
        kept = None if self.choice is None else self.choice.of(kind.inputs.numbers, most)
        return replace(self._tile, most=most, kept=kept)

    def settled(self, kind: Kind, found: Probe) -> bool:
        """Take up what the first probe chose; False if it has to be repeated with what another process chose."""
        if self.choice is not None or not isinstance(self._tile, AutoTile):
            return True
        chosen = TileChoice(found.kept_tile, kind.inputs.numbers)
        self.choice = self._keep(chosen)
        return self.choice == chosen


def at_once(tile: int) -> int:
    """How many samples go to a projector in one call: whole tiles, so that a cut between calls changes no bit."""
    return tile * max(1, _AT_ONCE // tile)
