"""Trial of tiles: the same bits in every place and company, the same vectors as in a small batch, and what a tile takes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dugs_stream.core.gradients.inference import forward
from dugs_stream.core.mixing import ProbeBatch, padded
from dugs_stream.core.model_writes import undone
from dugs_stream.core.projector import Projection, Projector
from dugs_stream.core.samples import Inputs, device_of, part_of
from dugs_stream.core.threads import torch_threads
from dugs_stream.core.tiling import AutoTile, Timing, measured
from dugs_stream.core.transfer import LEAST_NORM
from dugs_stream.core.unfit import UnfitError, unfit
from dugs_stream.errors import ModelError

if TYPE_CHECKING:
    from dugs_stream.core.trial import Trial

_DISTINCT = 4
"""Different samples in the tile in which each place is tried; each of them stands in many places."""

_FEW_ROWS = 16
"""Below so many samples in a tile a product over them may round each by its place."""

_PROVEN = 2
"""Samples among which the gradient was held against autograd's: other tiles must agree with a tile of them."""

_TWO_RUNS, _MOST_RUNS, _FEW_RUNS = 2, 8, 2
_ENOUGH_SECONDS, _LONG_SECONDS = 0.06, 0.3
"""A tile is timed until its runs took enough. The first also pays for what torch keeps from then on, so that a second follows
unless the first was so long that this hardly counts. Where few samples come, tiles of two and more run once."""


class TileTrial:
    """Tiles of a projector whose gradient is right, tried with neighbours of the trial's sample; inside `inference(model)`."""

    def __init__(self, trial: Trial, projector: Projector) -> None:
        self._trial = trial
        self._projector = projector
        self._pool = trial.mixed_copies(_DISTINCT)
        self._seen: dict[
            int, Projection
        ] = {}  # by tile: of the trial's sample, and of the pool's others from the end
        self._runs: dict[int, _PlaceRuns] = {}

    def timings(self, auto: AutoTile) -> list[Timing]:
        """What tiles took; one whose vectors differ from those among two samples is left out.

        Raises UnfitError if not every sample passes through all chosen layers, or if no tile is right; ModelError if a
        tile mixes samples.
        """
        failed: list[Exception] = []

        def take(tile: int) -> float | None:
            try:
                seconds = self._seconds(tile, auto)
            except Exception as error:
                if isinstance(error, UnfitError):
                    raise
                failed.append(error)
                return None
            return seconds if self.agrees(tile) else None

        with torch_threads(auto.threads):
            found = measured(take, auto.most, auto.samples)
        if not found:
            raise (
                unfit(failed[0])
                if failed
                else UnfitError("Vectors of a tile differ from those of two samples")
            )
        return found

    def require_agreement(self, tile: int, most: int) -> None:
        """Of a tile that was chosen earlier all that `timings` requires; UnfitError says what is wrong with it."""
        if not self._trial.is_further:
            self._vectors(min(_DISTINCT, most))
        if not self.agrees(tile):
            raise UnfitError(f"Vectors of a tile of {tile} differ from those of two samples")

    def agrees(self, tile: int) -> bool:
        """Whether samples have the same vectors, apart from rounding, in such a tile as in one of two.

        A sample alone need not, if a model adds its place in the batch to it: what it is alone counts.
        Raises ModelError if that is so because the tile mixes samples.
        """
        if tile == _PROVEN:
            return True
        own, proven = (self._vectors(each) for each in (tile, _PROVEN))
        rows = min(len(own.norms), len(proven.norms))
        if self._trial.is_right(_apart(own, proven, rows)):
            return True
        if tile > 1:
            self._trial.require_apart(tile)
        return tile == 1 and self._place_counts()

    def _place_counts(self) -> bool:
        """Whether a sample's vector at the second place of two is another one than at the first."""
        projector, own = self._projector.in_tiles(_PROVEN), self._vectors(_PROVEN)
        turned = projector.project(*_rows(self._pool, torch.tensor([_DISTINCT - 2, _DISTINCT - 1])))
        second = Projection(turned.vectors[1:], turned.norms[1:], None)
        return not self._trial.is_right(_apart(second, own, 1))

    def place_is_irrelevant(self, tile: int) -> bool:
        """Whether samples have the same vector, bit for bit, at every place in the tile and beside any others.

        With rows of, say, 50 numbers every other row starts at an odd address, and MKL's products round it otherwise. Samples
        that differ only in length from earlier ones are compared within one tile, which costs half of it.
        Raises ModelError if a vector is another one altogether: a large tile mixes samples, although a small one did not.
        """
        runs = self._runs_of(tile)
        try:
            runs.complete(1 if self._trial.is_further else _TWO_RUNS)
        except Exception as error:
            raise unfit(error) from error
        _require_every_sample(runs.projector)
        self._seen.setdefault(tile, runs.own())
        pool, samples = runs.pool, torch.cat(runs.orders[: len(runs.found)])
        whole = _concatenated(runs.found)
        vectors, norms = whole.vectors, whole.norms
        first = (samples[:, None] == samples).int().argmax(dim=1).numpy()  # where each of them stood first
        if np.array_equal(vectors, vectors[first]) and np.array_equal(norms, norms[first], equal_nan=True):
            return tile >= _FEW_ROWS or self._loss_is_the_same_anywhere(pool)
        if not self._trial.is_right(
            _apart(whole, Projection(vectors[first], norms[first], None), len(norms))
        ):
            self._trial.require_apart(tile)
        return False

    def _loss_is_the_same_anywhere(self, pool: ProbeBatch) -> bool:
        """Whether samples have the same loss, bit for bit, at many places of a small tile.

        Products of few rows and few columns round some rows otherwise. Seldom does a vector show it, a loss in float64 does.
        """
        trial = self._trial
        samples = _repetitions(len(pool), 1)
        try:
            with undone(trial.written):
                losses = forward(trial.model, trial.loss, *_rows(pool, samples))[1].detach().cpu()
        except Exception as error:
            raise unfit(error) from error
        first = losses[(samples[:, None] == samples).int().argmax(dim=1)]
        losses, first = losses.nan_to_num(), first.nan_to_num()
        if torch.equal(losses, first):
            return True
        if not trial.is_right(((losses - first).abs() / first.abs().clamp(min=LEAST_NORM)).tolist()):
            trial.require_apart(len(pool))  # no rounding: the samples are mixed, or the model is random
        return False

    def _seconds(self, tile: int, auto: AutoTile) -> float:
        """The least that a tile took in a few runs, which also show whether its places are alike."""
        runs, seconds = self._runs_of(tile), list[float]()
        most = _MOST_RUNS if auto.samples is None else _FEW_RUNS if tile == 1 else 1
        while (
            sum(seconds) < (_LONG_SECONDS if len(seconds) < _TWO_RUNS else _ENOUGH_SECONDS)
            and len(seconds) < most
        ):
            began = auto.clock()
            runs.run()
            seconds.append(auto.clock() - began)
        _require_every_sample(runs.projector)
        self._seen.setdefault(tile, runs.own())
        return min(seconds)

    def _runs_of(self, tile: int) -> _PlaceRuns:
        if tile not in self._runs:
            pool = self._pool if tile == 1 else self._trial.mixed_copies(tile)
            self._runs[tile] = _PlaceRuns(self._projector.in_tiles(tile), pool)
        return self._runs[tile]

    def _vectors(self, tile: int) -> Projection:
        """Those of the trial's sample, and of the pool's others from the end, in a tile of this size."""
        if tile not in self._seen:
            projector = self._projector.in_tiles(tile)
            which = _DISTINCT - 1 - torch.arange(max(tile, _PROVEN)) % _DISTINCT
            try:
                found = projector.project(*_rows(self._pool, which))
            except Exception as error:
                raise unfit(error) from error
            _require_every_sample(projector)
            self._seen[tile] = found
        return self._seen[tile]


def _require_every_sample(projector: Projector) -> None:
    if projector.has_isolated:
        raise UnfitError("Not every sample passes through all chosen layers")


def _apart(found: Projection, expected: Projection, rows: int) -> list[float]:
    """Of the first rows: distances of the unit vectors, and relative differences of the norms."""
    distances = np.linalg.norm(found.vectors[:rows] - expected.vectors[:rows], axis=1)
    ratios = found.norms[:rows] / np.maximum(expected.norms[:rows], LEAST_NORM)
    return [*distances.tolist(), *np.abs(np.nan_to_num(ratios - 1)).tolist()]


def _concatenated(pieces: list[Projection]) -> Projection:
    vectors, norms = (
        np.concatenate([getattr(piece, part) for piece in pieces]) for part in ("vectors", "norms")
    )
    return Projection(vectors, norms, None)


class _PlaceRuns:
    """Runs of one tile: a few samples at many of its places, then each sample beside others; these two in turns.

    Some samples end in padding, unless the model cannot take that. A tile of one takes the trial's sample, and the one before it.

    found  of the first run in each order
    """

    def __init__(self, projector: Projector, pool: ProbeBatch) -> None:
        tile = projector.tile
        self.projector, self.pool = projector, pool
        self.orders = [_repetitions(tile, 0), torch.arange(tile).roll(tile // 2 + 1)]
        if tile == 1:
            self.orders = [torch.tensor([len(pool) - 1]), torch.tensor([len(pool) - 2])]
        self.found: list[Projection] = []
        self._filled = None if tile == 1 else replace(pool, inputs=padded(pool.inputs))
        self._number = 0

    def run(self) -> None:
        """The next one."""
        order = self.orders[self._number % len(self.orders)]
        try:
            found = self.projector.project(*_rows(self._filled or self.pool, order))
        except ModelError:
            if self._filled is None:
                raise
            self._filled, self._number = None, 0
            self.found.clear()
            return self.run()
        self._number += 1
        if len(self.found) < len(self.orders):
            self.found.append(found)
        return None

    def complete(self, orders: int) -> None:
        """Run until so many orders have been."""
        while len(self.found) < orders:
            self.run()

    def own(self) -> Projection:
        """Of the trial's sample; of a tile of one, also of those before it."""
        if self.projector.tile == 1:
            return _concatenated(self.found)
        at = int(torch.nonzero(self.orders[0] == len(self.pool) - 1)[0])
        return Projection(self.found[0].vectors[at : at + 1], self.found[0].norms[at : at + 1], None)


def _repetitions(tile: int, number: int) -> Tensor:
    """A few samples of a tile, other ones for each number, at many of its places."""
    which = torch.arange(tile) % min(_DISTINCT, max(2, tile // 2)) + number * _DISTINCT
    return (tile - 1 - which[torch.randperm(tile, generator=torch.Generator().manual_seed(number))]) % tile


def _rows(batch: ProbeBatch, which: Tensor) -> tuple[Inputs, Tensor | None]:
    which = which.to(device_of(batch.inputs))
    return part_of(batch.inputs, which), None if batch.labels is None else batch.labels[which]
