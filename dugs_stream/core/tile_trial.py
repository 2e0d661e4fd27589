"""Trial of tiles: the same bits in every place and company, the same vectors as in a small batch, and what a tile takes."""

from __future__ import annotations

import contextlib
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

_TWO_RUNS, _MOST_RUNS = 2, 8
_ENOUGH_SECONDS, _LONG_SECONDS = 0.06, 0.3
"""A tile is timed until its runs took enough. The first also pays for what torch keeps from then on, so that a second follows
unless the first was so long that this hardly counts."""


class TileTrial:
    """Tiles of a projector whose gradient is right, tried with neighbours of the trial's sample; inside `inference(model)`."""

    def __init__(self, trial: Trial, projector: Projector) -> None:
        self._trial = trial
        self._projector = projector
        self._pool = trial.mixed_copies(_DISTINCT)
        self._seen: dict[
            int, Projection
        ] = {}  # by tile: of the trial's sample, and of the pool's others from the end

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
            found = measured(take, auto.most)
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
        projector, pool = self._projector.in_tiles(tile), self._trial.mixed_copies(tile)
        orders = [_repetitions(tile, 0)]
        if not self._trial.is_further:
            orders.append(torch.arange(tile).roll(tile // 2 + 1))
        found = _projected(projector, pool, *orders)
        _require_every_sample(projector)
        vectors, norms = (
            np.concatenate([getattr(each, part) for each in found]) for part in ("vectors", "norms")
        )
        samples = torch.cat(orders)
        own = np.flatnonzero(samples.numpy() == tile - 1)[:1]
        self._seen.setdefault(tile, Projection(vectors[own], norms[own], None))
        first = (samples[:, None] == samples).int().argmax(dim=1).numpy()  # where each of them stood first
        if np.array_equal(vectors, vectors[first]) and np.array_equal(norms, norms[first], equal_nan=True):
            return tile >= _FEW_ROWS or self._loss_is_the_same_anywhere(pool)
        whole = Projection(vectors, norms, None)
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
        """The least that a tile took in a few runs."""
        projector = self._projector.in_tiles(tile)
        runs: list[float] = []
        pieces: list[Projection] = []
        while (
            sum(runs) < (_LONG_SECONDS if len(runs) < _TWO_RUNS else _ENOUGH_SECONDS)
            and len(runs) < _MOST_RUNS
        ):
            rows = _rows(self._pool, _DISTINCT - 1 - (torch.arange(tile) + len(runs) * tile) % _DISTINCT)
            began = auto.clock()
            pieces.append(projector.project(*rows))
            runs.append(auto.clock() - began)
        _require_every_sample(projector)
        self._seen[tile] = _joined(pieces)
        return min(runs)

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


def _joined(pieces: list[Projection]) -> Projection:
    """The first rows of projections that go on where the one before ended."""
    vectors, norms = (
        np.concatenate([getattr(piece, part) for piece in pieces])[:_DISTINCT]
        for part in ("vectors", "norms")
    )
    return Projection(vectors, norms, None)


def _projected(projector: Projector, pool: ProbeBatch, *orders: Tensor) -> list[Projection]:
    """The batch in each of these orders, with padding in some samples unless the model cannot take that."""
    try:
        with contextlib.suppress(ModelError):
            filled = replace(pool, inputs=padded(pool.inputs))
            return [projector.project(*_rows(filled, order)) for order in orders]
        return [projector.project(*_rows(pool, order)) for order in orders]
    except Exception as error:
        raise unfit(error) from error


def _repetitions(tile: int, number: int) -> Tensor:
    """A few samples of a tile, other ones for each number, at many of its places."""
    which = torch.arange(tile) % min(_DISTINCT, max(2, tile // 2)) + number * _DISTINCT
    return (tile - 1 - which[torch.randperm(tile, generator=torch.Generator().manual_seed(number))]) % tile


def _rows(batch: ProbeBatch, which: Tensor) -> tuple[Inputs, Tensor | None]:
    which = which.to(device_of(batch.inputs))
    return part_of(batch.inputs, which), None if batch.labels is None else batch.labels[which]
