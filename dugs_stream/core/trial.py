"""Trial of a model and one sample: by which way its gradient is autograd's, if by any.

Hooks first, among neighbours and in every place of a tile; else the whole loss. A model that mixes samples is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from dugs_stream.core.batch_reads import reads_batch
from dugs_stream.core.comparison import Difference, compared, differences, tolerance
from dugs_stream.core.gradients import whole
from dugs_stream.core.gradients.axes import call_axes
from dugs_stream.core.gradients.capture import CallAxes
from dugs_stream.core.gradients.inference import differentiable, forward, tracked
from dugs_stream.core.gradients.kinds.registry import needs_trial
from dugs_stream.core.gradients.layers import Layer, OwnedParameter
from dugs_stream.core.gradients.memory import is_out_of_memory
from dugs_stream.core.gradients.observation import SeenCall, shapes_seen
from dugs_stream.core.gradients.paths import LayerPaths
from dugs_stream.core.losses.loss import Loss
from dugs_stream.core.memory_layout import CHANNELS_LAST, LEAST_TILE, profits_from_channels_last
from dugs_stream.core.mixing import (
    ProbeBatch,
    copies,
    hiding_nothing,
    mixed,
    refuse_mixing,
    with_other_labels,
)
from dugs_stream.core.model_writes import Held, undone
from dugs_stream.core.projector import Projector
from dugs_stream.core.samples import Inputs, call_model
from dugs_stream.core.sketch.count_sketch import Sketch
from dugs_stream.core.tile_sizes import Sizes, placed_in, sizes_to_try
from dugs_stream.core.tile_trial import TileTrial
from dugs_stream.core.tiling import AutoTile
from dugs_stream.core.unfit import UnfitError, not_whole, unfit
from dugs_stream.errors import ModelError

_FEW = 2
"""Samples among which the gradient is held against autograd's."""

_COMPANY = 8
"""Samples among which a model that looks at its batch is tried: one neighbour may change nothing by chance."""

_TRIALS = 4
"""Times that a model under suspicion is tried: a random one may give the same twice."""

Axes = Mapping[str, Sequence[CallAxes]]


@dataclass(frozen=True, eq=False)
class Fit:
    """A projector whose gradient is autograd's, each parameter's difference from it, and why it is the last resort."""

    projector: Projector
    apart: dict[str, float]
    sizes: Sizes
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

    def fit(self, tile: int | AutoTile) -> Fit:
        """The quickest way that is right, with tiles of this size if it allows them.

        Raises ModelError if samples are mixed, or if autograd's gradient is not the same twice.
        """
        tile = 1 if self.written else tile
        few = min(_FEW, tile.most if isinstance(tile, AutoTile) else tile)
        hooked = next((each.name for each in self.parameters if each.parameter._backward_hooks), None)  # noqa: SLF001 -- torch's only name for them
        if hooked is not None:  # autograd alone calls it
            return self._last_resort(f"A hook on {hooked} may change its gradient", Sizes((1,), 1))
        if self._reads_batch():
            tile = 1
            self.require_apart(_COMPANY)
        try:
            return self._by_hooks(tile, few)
        except UnfitError as error:
            self.require_apart(few)
            return self._whole(str(error), tile, few)

    def _by_hooks(self, tile: int | AutoTile, few: int) -> Fit:
        """By the quickest paths and the quickest layout that are right; channels last goes first, so that it is proven once."""
        quickest = LayerPaths.quickest(self.used, self.outside)
        placed = self._channels_last(quickest, tile, few)
        if placed is not None:
            return placed
        projector, apart = self._with_right_paths(quickest, few)
        if projector.paths is not quickest:
            placed = self._channels_last(projector.paths, tile, few)
        if placed is not None:
            return placed
        projector, sizes = self._in_tiles(projector, tile)
        return Fit(projector, apart, sizes)

    def _reads_batch(self) -> bool:
        """Whether what a sample is given may depend on its company in a way that copies of it do not show."""
        inputs = hiding_nothing(self._copies(2).inputs)
        with undone(self.written), tracked(differentiable(self.model)):
            return reads_batch(lambda given: call_model(self.model, given), inputs, 2)

    def _channels_last(self, paths: LayerPaths, tile: int | AutoTile, few: int) -> Fit | None:
        """With pictures that lie channels last, if that is worth it, right, and gives the same bits in every place of a tile."""
        most = (tile.kept or tile.most) if isinstance(tile, AutoTile) else tile
        device = self.sketch.device
        if not profits_from_channels_last(self.model, self._shapes_of_calls(), self.example, device, most):
            return None
        if not paths.is_complete:
            return None
        try:
            contiguous = self._projector(self._axes, paths, few)
            changed = contiguous.laid_out(CHANNELS_LAST)
            apart = self._require_whole_gradient(changed, few)
            tiles = TileTrial(self, changed)
            placed = placed_in(tiles, changed, sizes_to_try(tiles, tile))
            if placed is not None and placed[0].tile < LEAST_TILE:  # which is computed as it is without
                apart = self._require_whole_gradient(contiguous, few)
        except (
            UnfitError,
            ModelError,
        ):  # such as `view`, which takes contiguous numbers; or else found again
            return None
        return None if placed is None else Fit(placed[0], apart, placed[1])

    def _shapes_of_calls(self) -> Iterator[torch.Size]:
        """Of what the layers in use are given and return."""
        for layer in self.used:
            for call in self.calls.get(layer.name, ()):
                yield from (shape for shape in (*call.given, *call.outputs) if shape is not None)

    def _in_tiles(self, projector: Projector, tile: int | AutoTile) -> tuple[Projector, Sizes]:
        """The projector with tiles in which a sample's bits depend on nothing else; slower paths, or tiles of one, if need be."""
        tiles = TileTrial(self, projector)
        sizes = sizes_to_try(tiles, tile)
        placed = placed_in(tiles, projector, sizes)
        if placed is not None:
            return placed
        largest = sizes.wanted[0]
        while (surer := projector.paths.without_batches()) is not None:
            projector = projector.with_paths(surer).in_tiles(largest)
            if TileTrial(self, projector).place_is_irrelevant(largest):
                return projector, sizes.taking(largest)
        if largest > 1 and not TileTrial(self, projector).agrees(1):
            raise UnfitError("A sample alone has another gradient than beside others")
        return projector.in_tiles(1), sizes.taking(largest)

    def _with_right_paths(self, paths: LayerPaths, tile: int) -> tuple[Projector, dict[str, float]]:
        """Each layer by its quickest path that is right, these first; UnfitError if none of some layer is."""
        axes = self._axes
        if not paths.is_complete:
            raise not_whole(self.outside)
        while True:
            projector = self._projector(axes, paths, tile)
            try:
                return projector, self._require_whole_gradient(projector, tile)
            except UnfitError as error:
                lower = paths.without_first(error.layers)
                if lower is None:
                    raise (not_whole(self.outside) if self.outside else error) from error.__cause__
                paths = lower

    def _projector(self, axes: Axes, paths: LayerPaths, tile: int, whole_copies: int = 0) -> Projector:
        return Projector(
            self.model, self.used, axes, paths, self.loss, self.sketch, tile, self.written, whole_copies
        )

    def _copies(self, m: int) -> ProbeBatch:
        return copies(self.example, self.label, m, self.sketch.device)

    def mixed_copies(self, m: int) -> ProbeBatch:
        """The sample after m - 1 neighbours, with other labels where the loss takes them."""
        return self._mixed(self._copies(m))

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

    def _compared(self, found: Sequence[Tensor], expected: Sequence[Tensor]) -> dict[str, Difference]:
        apart = compared(found, expected)
        return {owned.name: each for owned, each in zip(self.parameters, apart, strict=True)}

    def _differences(self, found: Sequence[Tensor], expected: Sequence[Tensor]) -> dict[str, float]:
        return _shares(self._compared(found, expected))

    def is_right(self, apart: Collection[float]) -> bool:
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

    def require_apart(self, m: int) -> None:
        """Raise ModelError if autograd's own gradient of the sample depends on the other samples of a batch of m."""
        few = self._copies(m)
        among = self._mixed(few)
        for _ in range(_TRIALS):
            if not self.is_right(differences(self._autograd(among), self._autograd(few))):
                with undone(self.written):
                    refuse_mixing(self.model, self.loss, few, self._copies(m + 1), among)

    def _require_whole_gradient(self, projector: Projector, m: int) -> dict[str, float]:
        """Compare what the hooks give for the sample among neighbours; UnfitError that names what differs."""
        among = self.mixed_copies(m)
        try:
            formed = projector.formed(among.inputs, among.labels)
        except Exception as error:
            raise unfit(error) from error
        zero = torch.zeros((), device=self.sketch.device)
        found = [formed.get(owned.name, zero) for owned in self.parameters]
        against = self._compared(found, self.expected)
        apart = _shares(against)
        if self.is_right(apart.values()):
            self._require_claims_shown(projector.paths, against)
            return apart
        try:  # a sample alone is what counts: beside a copy, some gradients are scaled (by frequency, by batch)
            alone = self._differences(found, self._autograd(self._copies(1)))
        except Exception as error:
            if is_out_of_memory(error):
                raise
            alone = apart
        if self.is_right(alone.values()):
            return alone
        worst = sorted(apart, key=apart.__getitem__, reverse=True)
        wrong = [name for name in worst if not self.is_right([apart[name]])]
        raise not_whole(wrong, {layer.name for name in wrong for layer in self._holding(name)})

    def _require_claims_shown(self, paths: LayerPaths, against: Mapping[str, Difference]) -> None:
        """UnfitError that names the layers about which a path claims what this sample's gradient does not show."""
        hidden = {name for name, each in against.items() if not each.is_shown}
        claimed = {
            layer.name: owned.name
            for layer in self.used
            for owned in layer.parameters
            if owned.name in hidden and needs_trial(paths.of(layer), layer)
        }
        if claimed:
            raise not_whole(list(claimed.values()), claimed)

    def _whole(self, reason: str, tile: int | AutoTile, few: int) -> Fit:
        """By the whole loss: of a tile's samples at once, each apart; else of a sample alone."""
        sizes = Sizes((1,), 1)
        if tile != 1:
            projector = Projector(
                *(self.model, self.used, {}, LayerPaths({}), self.loss, self.sketch, few), at_once=True
            )
            among = self.mixed_copies(few)
            try:
                found = [each[-1] for each in projector.whole_gradients(among.inputs, among.labels)]
                apart = self._differences(found, self.expected)
                if self.is_right(apart.values()):
                    tiles = TileTrial(self, projector)
                    sizes = sizes_to_try(tiles, tile)
                    placed = placed_in(tiles, projector, sizes)
                    if placed is not None:
                        return Fit(placed[0], apart, placed[1], reason)
            except Exception as error:
                if is_out_of_memory(error):
                    raise
        return self._last_resort(reason, sizes)

    def _last_resort(self, reason: str, sizes: Sizes) -> Fit:
        """By the whole loss: a sample alone, or beside a copy of itself if the model cannot take one."""
        for copies_needed in (1, 2):
            try:
                found = self._autograd(self._copies(copies_needed))
            except Exception as error:
                if is_out_of_memory(error) or copies_needed > 1:
                    raise
                continue
            apart = self._differences(found, self.expected)
            if self.is_right(apart.values()):
                return Fit(self._projector({}, LayerPaths({}), 1, copies_needed), apart, sizes, reason)
        name = max(apart, key=apart.__getitem__)
        raise ModelError(
            f"the gradient of {name} in layer {self._holding(name)[0].title} is not the same twice: two passes over the "
            f"same sample differ by {apart[name]:.1%}; take randomness and state that outlives a pass out of the model's "
            "eval mode, or choose layers after it"
        )

    def _holding(self, name: str) -> list[Layer]:
        return [layer for layer in self.used if name in {owned.name for owned in layer.parameters}]

    @cached_property
    def _axes(self) -> dict[str, list[CallAxes]]:
        """The axes of each layer's calls, from passes over m and over m + 1 copies of the sample."""
        used = {layer.name: layer for layer in self.used}
        with undone(self.written):
            larger = shapes_seen(self.model, used, self._copies(self.m + 1).inputs)
        if any(len(self.calls.get(name, ())) != len(larger.get(name, ())) for name in used):
            raise UnfitError(
                "The model calls its layers another number of times for another number of samples"
            )
        return {
            name: [
                call_axes(call, other, self.m)
                for call, other in zip(self.calls.get(name, ()), larger.get(name, ()), strict=True)
            ]
            for name in used
        }


def _shares(against: Mapping[str, Difference]) -> dict[str, float]:
    return {name: each.share for name, each in against.items()}
