"""Trial of a model and one sample: by which way its gradient is autograd's, if by any.

Hooks first, among neighbours and in every place of a tile; else the whole loss. A model that mixes samples is refused.
"""

import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from dugs_stream.core.comparison import differences, is_shown, tolerance
from dugs_stream.core.gradients import whole
from dugs_stream.core.gradients.axes import call_axes
from dugs_stream.core.gradients.capture import CallAxes
from dugs_stream.core.gradients.inference import forward
from dugs_stream.core.gradients.kinds.registry import needs_trial
from dugs_stream.core.gradients.layers import Layer, LayerPathError, OwnedParameter
from dugs_stream.core.gradients.memory import is_out_of_memory
from dugs_stream.core.gradients.observation import SeenCall, shapes_seen
from dugs_stream.core.gradients.paths import LayerPaths
from dugs_stream.core.losses.loss import Loss
from dugs_stream.core.mixing import (
    ProbeBatch,
    copies,
    mixed,
    padded,
    refuse_mixing,
    with_other_labels,
)
from dugs_stream.core.model_writes import Held, undone
from dugs_stream.core.projector import LEAST_NORM, NoAxisError, Projection, Projector, UnevenError
from dugs_stream.core.samples import Inputs, device_of, part_of
from dugs_stream.core.sketch.count_sketch import Sketch
from dugs_stream.errors import ModelError

_DISTINCT = 4
"""Different samples in the tile in which each place is tried; each of them stands in many places."""

_FEW_ROWS = 16
"""Below so many samples in a tile a product over them may round each by its place."""

_TRIALS = 4
"""Times that a model under suspicion is tried: a random one may give the same twice."""

Axes = Mapping[str, Sequence[CallAxes]]


class _UnfitError(Exception):
    """The hooks do not give the whole gradient; the message begins a remark.

    layers  names of those whose path may be what is wrong
    """

    def __init__(self, message: str, layers: Collection[str] = ()) -> None:
        super().__init__(message)
        self.layers = layers


@dataclass(frozen=True, eq=False)
class Fit:
    """A projector whose gradient is autograd's, each parameter's difference from it, and why it is the last resort."""

    projector: Projector
    apart: dict[str, float]
    reason: str | None = None


@dataclass(frozen=True, eq=False)
class Trial:
    """A model, what was chosen of it, and autograd's gradient of one sample; use it inside `inference(model)`.

    used        the chosen layers, and the others cut to the parameters that they share with them
    parameters  of the chosen layers, each once
    expected    their gradients
    calls       of each layer, in a pass over m copies of the sample
    outside     names of parameters that are used outside of these calls, even if that gives this sample no gradient
    is_further  samples that differ from these in their lengths alone have been tried before
    """

    model: nn.Module
    loss: Loss
    sketch: Sketch
    used: tuple[Layer, ...]
    parameters: tuple[OwnedParameter, ...]
    expected: list[Tensor]
    calls: Mapping[str, Sequence[SeenCall]]
    outside: Sequence[str]
    m: int
    written: tuple[Held, ...]
    classes: int | None
    example: Inputs
    label: Tensor | None
    is_further: bool = False

    def fit(self, tile: int) -> Fit:
        """The quickest way that is right, with tiles of this size if it allows them.

        Raises ModelError if samples are mixed, or if autograd's gradient is not the same twice.
        """
        tile = 1 if self.written else tile
        try:
            projector, apart = self._with_right_paths(tile)
            while projector.tile > 1 and not self._place_is_irrelevant(projector):
                surer = projector.paths.without_batches()
                projector = projector.with_paths(surer) if surer else projector.one_at_a_time()
        except _UnfitError as unfit:
            self._require_apart(min(2, tile))
            return self._many_whole(str(unfit), tile) or self._last_resort(str(unfit))
        return Fit(projector, apart)

    def _with_right_paths(self, tile: int) -> tuple[Projector, dict[str, float]]:
        """Each layer by its quickest path that is right; _UnfitError if none of some layer is."""
        axes, paths = self._call_axes(), LayerPaths.quickest(self.used, self.outside)
        if not paths.is_complete:
            raise _not_whole(self.outside)
        while True:
            projector = self._projector(axes, paths, tile)
            try:
                return projector, self._require_whole_gradient(projector, min(2, tile))
            except _UnfitError as unfit:
                lower = paths.without_first(unfit.layers)
                if lower is None:
                    raise (_not_whole(self.outside) if self.outside else unfit) from unfit.__cause__
                paths = lower

    def _projector(self, axes: Axes, paths: LayerPaths, tile: int, whole_copies: int = 0) -> Projector:
        return Projector(
            self.model, self.used, axes, paths, self.loss, self.sketch, tile, self.written, whole_copies
        )

    def _copies(self, m: int) -> ProbeBatch:
        return copies(self.example, self.label, m, self.sketch.device)

    def _mixed(self, batch: ProbeBatch) -> ProbeBatch:
        among = mixed(batch, self.classes)
        return with_other_labels(among) if self._takes_other_labels else among

    @cached_property
    def _takes_other_labels(self) -> bool:
        """Whether a loss of one's own takes labels that nobody gave: it may mix samples by them."""
        if self.label is None or self.classes is not None:
            return False
        few = with_other_labels(self._copies(2))
        try:
            with undone(self.written):
                forward(self.model, self.loss, few.inputs, few.labels)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            return False
        return True

    def _differences(self, found: Sequence[Tensor], expected: Sequence[Tensor]) -> dict[str, float]:
        apart = differences(found, expected)
        return {owned.name: each for owned, each in zip(self.parameters, apart, strict=True)}

    def _is_right(self, apart: Collection[float]) -> bool:
        """Whether such differences are rounding."""
        dtypes = {owned.parameter.dtype for owned in self.parameters}
        for layer in self.used:  # computed in half precision under autocast
            dtypes |= {dtype for call in self.calls.get(layer.name, ()) for dtype in call.dtypes}
        return max(apart) <= tolerance(dtypes)

    def _autograd(self, batch: ProbeBatch) -> list[Tensor]:
        """The last sample's gradient in any batch, by the whole loss."""
        with undone(self.written):
            found, _ = whole.sample_gradients(
                self.model, self.parameters, self.loss, batch.inputs, batch.labels
            )
        return found

    def _require_apart(self, m: int) -> None:
        """Raise ModelError if autograd's own gradient of the sample depends on the other samples of a batch of m."""
        few = self._copies(m)
        among = self._mixed(few)
        for _ in range(_TRIALS):
            if not self._is_right(differences(self._autograd(among), self._autograd(few))):
                with undone(self.written):
                    refuse_mixing(self.model, self.loss, few, self._copies(m + 1), among)

    def _require_whole_gradient(self, projector: Projector, m: int) -> dict[str, float]:
        """Compare what the hooks give for the sample among neighbours; _UnfitError that names what differs."""
        among = self._mixed(self._copies(m))
        try:
            formed = projector.formed(among.inputs, among.labels)
        except Exception as error:
            raise _unfit(error) from error
        zero = torch.zeros((), device=self.sketch.device)
        found = [formed.get(owned.name, zero) for owned in self.parameters]
        apart = self._differences(found, self.expected)
        if self._is_right(apart.values()):
            self._require_claims_shown(projector.paths, found)
            return apart
        try:  # a sample alone is what counts: beside a copy, some gradients are scaled (by frequency, by batch)
            alone = self._differences(found, self._autograd(self._copies(1)))
        except Exception as error:
            if is_out_of_memory(error):
                raise
            alone = apart
        if self._is_right(alone.values()):
            return alone
        worst = sorted(apart, key=apart.__getitem__, reverse=True)
        wrong = [name for name in worst if not self._is_right([apart[name]])]
        raise _not_whole(wrong, {layer.name for name in wrong for layer in self._holding(name)})

    def _require_claims_shown(self, paths: LayerPaths, found: Sequence[Tensor]) -> None:
        """_UnfitError that names the layers about which a path claims what this sample's gradient does not show."""
        hidden = {
            owned.name
            for owned, one, other in zip(self.parameters, found, self.expected, strict=True)
            if not is_shown(one, other)
        }
        claimed = {
            layer.name: owned.name
            for layer in self.used
            for owned in layer.parameters
            if owned.name in hidden and needs_trial(paths.of(layer), layer)
        }
        if claimed:
            raise _not_whole(list(claimed.values()), claimed)

    def _many_whole(self, reason: str, tile: int) -> Fit | None:
        """By the whole loss of a tile's samples at once, each apart; None if that is not right, or not possible."""
        if tile == 1:
            return None
        projector = Projector(
            *(self.model, self.used, {}, LayerPaths({}), self.loss, self.sketch, tile), at_once=True
        )
        among = self._mixed(self._copies(min(2, tile)))
        try:
            found = [each[-1] for each in projector.whole_gradients(among.inputs, among.labels)]
            apart = self._differences(found, self.expected)
            if self._is_right(apart.values()) and self._place_is_irrelevant(projector):
                return Fit(projector, apart, reason)
        except Exception as error:
            if is_out_of_memory(error):
                raise
        return None

    def _last_resort(self, reason: str) -> Fit:
        """By the whole loss: a sample alone, or beside a copy of itself if the model cannot take one."""
        for copies_needed in (1, 2):
            try:
                found = self._autograd(self._copies(copies_needed))
            except Exception as error:
                if is_out_of_memory(error) or copies_needed > 1:
                    raise
                continue
            apart = self._differences(found, self.expected)
            if self._is_right(apart.values()):
                return Fit(self._projector({}, LayerPaths({}), 1, copies_needed), apart, reason)
        name = max(apart, key=apart.__getitem__)
        raise ModelError(
            f"the gradient of {name} in layer {self._holding(name)[0].title} is not the same twice: two passes over the "
            f"same sample differ by {apart[name]:.1%}; take randomness and state that outlives a pass out of the model's "
            "eval mode, or choose layers after it"
        )

    def _holding(self, name: str) -> list[Layer]:
        return [layer for layer in self.used if name in {owned.name for owned in layer.parameters}]

    def _call_axes(self) -> dict[str, list[CallAxes]]:
        """The axes of each layer's calls, from passes over m and over m + 1 copies of the sample."""
        used = {layer.name: layer for layer in self.used}
        with undone(self.written):
            larger = shapes_seen(self.model, used, self._copies(self.m + 1).inputs)
        if any(len(self.calls.get(name, ())) != len(larger.get(name, ())) for name in used):
            raise _UnfitError(
                "The model calls its layers another number of times for another number of samples"
            )
        return {
            name: [
                call_axes(call, other, self.m)
                for call, other in zip(self.calls.get(name, ()), larger.get(name, ()), strict=True)
            ]
            for name in used
        }

    def _place_is_irrelevant(self, projector: Projector) -> bool:
        """Whether samples have the same vector, bit for bit, at every place in the tile and beside any others.

        With rows of, say, 50 numbers every other row starts at an odd address, and MKL's products round it otherwise. Samples
        that differ only in length from earlier ones are compared within one tile, which costs half of it.
        Raises ModelError if a vector is another one altogether: a large tile mixes samples, although a small one did not.
        """
        tile, pool = projector.tile, self._mixed(self._copies(projector.tile))
        orders = [_repetitions(tile, 0)]
        if not self.is_further:
            orders.append(torch.arange(tile).roll(tile // 2 + 1))
        found = self._projected(projector, pool, *orders)
        if projector.has_isolated:
            raise _UnfitError("Not every sample passes through all chosen layers")
        vectors, norms = (
            np.concatenate([getattr(each, part) for each in found]) for part in ("vectors", "norms")
        )
        samples = torch.cat(orders)
        first = (samples[:, None] == samples).int().argmax(dim=1).numpy()  # where each of them stood first
        if np.array_equal(vectors, vectors[first]) and np.array_equal(norms, norms[first], equal_nan=True):
            return tile >= _FEW_ROWS or self._loss_is_the_same_anywhere(pool)
        apart = np.linalg.norm(vectors - vectors[first], axis=1)
        longer = np.abs(np.nan_to_num(norms / np.maximum(norms[first], LEAST_NORM) - 1))
        if not self._is_right([*apart.tolist(), *longer.tolist()]):
            self._require_apart(tile)
        return False

    def _loss_is_the_same_anywhere(self, pool: ProbeBatch) -> bool:
        """Whether samples have the same loss, bit for bit, at many places of a small tile.

        Products of few rows and few columns round some rows otherwise. Seldom does a vector show it, a loss in float64 does.
        """
        samples = _repetitions(len(pool), 1)
        try:
            with undone(self.written):
                losses = forward(self.model, self.loss, *_rows(pool, samples))[1].detach().cpu()
        except Exception as error:
            raise _unfit(error) from error
        first = losses[(samples[:, None] == samples).int().argmax(dim=1)]
        losses, first = losses.nan_to_num(), first.nan_to_num()
        if torch.equal(losses, first):
            return True
        if not self._is_right(((losses - first).abs() / first.abs().clamp(min=LEAST_NORM)).tolist()):
            self._require_apart(len(pool))  # no rounding: the samples are mixed, or the model is random
        return False

    def _projected(self, projector: Projector, pool: ProbeBatch, *orders: Tensor) -> list[Projection]:
        """The batch in each of these orders, with padding in some samples unless the model cannot take that."""
        try:
            with contextlib.suppress(ModelError):
                filled = replace(pool, inputs=padded(pool.inputs))
                return [projector.project(*_rows(filled, order)) for order in orders]
            return [projector.project(*_rows(pool, order)) for order in orders]
        except Exception as error:
            raise _unfit(error) from error


def _repetitions(tile: int, number: int) -> Tensor:
    """A few samples of a tile, other ones for each number, at many of its places."""
    which = torch.arange(tile) % min(_DISTINCT, max(2, tile // 2)) + number * _DISTINCT
    return (tile - 1 - which[torch.randperm(tile, generator=torch.Generator().manual_seed(number))]) % tile


def _not_whole(names: Sequence[str], layers: Collection[str] = ()) -> _UnfitError:
    return _UnfitError(
        f"The calls of the chosen layers do not give the whole gradient of {', '.join(names[:5])}", layers
    )


def _unfit(error: Exception) -> Exception:
    if is_out_of_memory(error):
        return error
    if isinstance(error, UnevenError):
        layers = error.layers if isinstance(error, NoAxisError) else ()
        return _UnfitError(f"{str(error)[:1].upper()}{str(error)[1:]}", layers)
    if isinstance(error, LayerPathError):
        return _UnfitError(f"Layers do not run alone ({error})", error.layers)
    return _UnfitError(f"The chosen layers do not run alone ({error})")


def _rows(batch: ProbeBatch, which: Tensor) -> tuple[Inputs, Tensor | None]:
    which = which.to(device_of(batch.inputs))
    return part_of(batch.inputs, which), None if batch.labels is None else batch.labels[which]
