"""Start-up probe of a model through one example: right, slow or refused, before the first record is judged.

The engine's own gradient of one sample, among neighbours, is held against plain autograd of the same loss, parameter by
parameter. What differs goes by the whole loss, a sample at a time (`core.gradients.whole`); a model that mixes samples
is refused (`core.mixing`). Costs seven samples and two tiles forward, four samples and two tiles back.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from dugs_stream.core import remarks
from dugs_stream.core.comparison import differences, tolerance
from dugs_stream.core.gradients import whole
from dugs_stream.core.gradients.capture import CallAxes
from dugs_stream.core.gradients.inference import inference
from dugs_stream.core.gradients.layers import (
    ChosenLayer,
    Layer,
    OwnedParameter,
    TiedParameter,
    choose_layers,
    parameter_layers,
    sharing,
    tied,
)
from dugs_stream.core.gradients.losses import Loss
from dugs_stream.core.gradients.memory import is_out_of_memory
from dugs_stream.core.gradients.observation import Observation, SeenCall, Shapes, observe, shapes_seen
from dugs_stream.core.gradients.paths import fast_path
from dugs_stream.core.mixing import ProbeBatch, copies, mixed, refuse_mixing, sample_axis
from dugs_stream.core.model_writes import Held, WriteWatch, undone
from dugs_stream.core.projector import Projector, model_errors
from dugs_stream.core.sketch.count_sketch import Sketch
from dugs_stream.errors import ModelError

_DISTINCT = 4
"""Different samples in the tile in which each place is tried; each of them stands in many places."""

_TRIALS = 4
"""Times that a model under suspicion is tried: a random one may give the same twice."""


@dataclass(frozen=True)
class Probe:
    """The probe's findings.

    layers          the chosen layers in the order in which a forward pass enters them
    classes         width of the logits for a classification loss, None for a user's function
    tile            samples computed together: as asked for, or 1 if this model's bits depend on the place in a tile
    tied            parameters of chosen layers that other layers use too
    is_last_resort  whether the whole loss runs back for one sample at a time: right, and very slow
    remarks         what the model's owner should know, in sentences
    """

    layers: tuple[ChosenLayer, ...]
    classes: int | None
    tile: int
    tied: tuple[TiedParameter, ...]
    is_last_resort: bool = False
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Trial:
    """A model, what was chosen of it, and autograd's gradient of one sample.

    used        the chosen layers, and the others cut to the parameters that they share with them
    parameters  of the chosen layers, each once
    expected    their gradients
    """

    model: nn.Module
    loss: Loss
    sketch: Sketch
    used: tuple[Layer, ...]
    parameters: tuple[OwnedParameter, ...]
    expected: list[Tensor]
    written: tuple[Held, ...]
    classes: int | None
    example: Tensor
    label: Tensor | None

    def projector(
        self, axes: Mapping[str, Sequence[CallAxes]], tile: int, whole_copies: int = 0
    ) -> Projector:
        """The projector of what was chosen."""
        return Projector(
            self.model, self.used, axes, self.loss, self.sketch, tile, self.written, whole_copies
        )

    def copies(self, m: int) -> ProbeBatch:
        """The sample m times."""
        return copies(self.example, self.label, m, self.sketch.device)

    def differences(self, found: Sequence[Tensor]) -> dict[str, float]:
        """How far each parameter's gradient is from autograd's, by the parameter's name."""
        apart = differences(found, self.expected)
        return {owned.name: each for owned, each in zip(self.parameters, apart, strict=True)}

    def is_right(self, apart: Collection[float]) -> bool:
        """Whether such differences are rounding."""
        return max(apart) <= tolerance([owned.parameter for owned in self.parameters])

    def autograd(self, batch: ProbeBatch) -> list[Tensor]:
        """The last sample's gradient in any batch, by the whole loss."""
        with undone(self.written):
            found, _ = whole.sample_gradients(
                self.model, self.parameters, self.loss, batch.inputs, batch.labels
            )
        return found

    def require_apart(self, m: int) -> None:
        """Raise ModelError if autograd's own gradient of the sample depends on the other samples of a batch of m."""
        few = self.copies(m)
        among = mixed(few, self.classes)
        for _ in range(_TRIALS):
            if not self.is_right(differences(self.autograd(among), self.autograd(few))):
                with undone(self.written):
                    refuse_mixing(self.model, self.loss, few, self.copies(m + 1), among)


def probe_model(
    model: nn.Module,
    wanted: int | Sequence[str],
    loss: Loss,
    sketch: Sketch,
    tile: int,
    example: Tensor,
    label: Tensor | None,
) -> tuple[Probe, Projector]:
    """Probe the model through one example (without a sample axis, finite) and its label (a scalar).

    Raises ModelError, naming the layer: samples are mixed; a chosen layer never runs; a glob matches nothing; no chosen
    layer reaches the loss; autograd cannot go back to it, or not twice the same way.
    """
    layers = parameter_layers(model)
    frozen = _frozen_beside_others(layers)
    m = min(2, tile)
    few = copies(example, label, m, sketch.device)
    with inference(model), model_errors(few.inputs):
        with WriteWatch(model) as watch:
            seen = observe(model, layers, few.inputs, few.labels, loss)
            ran = seen.order(layers)
            reaching = {name for name in ran if seen.reaches_loss(layers[name])}
            chosen = choose_layers(model, wanted, layers, ran, reaching - frozen or reaching)
            parameters = tuple({owned.name: owned for layer in chosen for owned in layer.parameters}.values())
            expected = _autograd(seen, chosen, parameters)  # before what the model wrote is undone
        is_matrix = isinstance(seen.outputs, Tensor) and seen.outputs.dim() == 2  # noqa: PLR2004 -- samples by classes
        classes = int(seen.outputs.shape[1]) if loss.is_classification and is_matrix else None
        said = [
            *remarks.on_choice(wanted, chosen, ran, reaching, frozen),
            *remarks.on_precision(chosen),
            *remarks.on_writes(watch.written),
            *(remarks.on_outputs(seen.outputs) if classes else ()),
        ]
        trial = _Trial(
            model=model,
            loss=loss,
            sketch=sketch,
            used=(*chosen, *sharing(layers, chosen)),
            parameters=parameters,
            expected=expected,
            written=watch.written,
            classes=classes,
            example=example,
            label=label,
        )
        find_axes = partial(_call_axes, trial, seen.calls, m)
        projector, apart = _fit_projector(trial, find_axes, 1 if watch.written else tile, said)
    described = tuple(
        ChosenLayer(
            layer.name,
            layer.kind,
            "whole" if projector.is_last_resort else "fast" if fast_path(layer) else "slow",
            layer.size,
            max(apart[owned.name] for owned in layer.parameters),
        )
        for layer in chosen
    )
    found = Probe(
        described, classes, projector.tile, tied(layers, chosen), projector.is_last_resort, tuple(said)
    )
    return found, projector


class _UnfitError(Exception):
    """The hooks do not give the whole gradient; the message begins a remark."""


def _fit_projector(
    trial: _Trial, find_axes: Callable[[], Mapping[str, Sequence[CallAxes]]], tile: int, said: list[str]
) -> tuple[Projector, dict[str, float]]:
    """A projector whose gradient is autograd's, and each parameter's difference from it."""
    m = min(2, tile)
    try:
        axes = find_axes()
        projector = trial.projector(axes, tile)
        apart = _require_whole_gradient(trial, projector, axes, m)
    except _UnfitError as unfit:
        trial.require_apart(m)
        said.extend(remarks.on_last_resort(str(unfit)))
        return _last_resort(trial)
    if tile > 1 and not _place_is_irrelevant(trial, projector):
        projector = projector.one_at_a_time()
    return projector, apart


def _require_whole_gradient(
    trial: _Trial, projector: Projector, axes: Mapping[str, Sequence[CallAxes]], m: int
) -> dict[str, float]:
    """Compare what the hooks give for the sample among neighbours; _UnfitError that names what differs."""
    among = mixed(trial.copies(m), trial.classes)
    try:
        found = projector.formed(among.inputs, among.labels)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise _UnfitError(f"The chosen layers do not run alone ({type(error).__name__}: {error})") from error
    zero = torch.zeros(())
    apart = trial.differences([found.get(owned.name, zero) for owned in trial.parameters])
    if not trial.is_right(apart.values()):
        worst = sorted(apart, key=apart.__getitem__, reverse=True)
        wrong = [name for name in worst if not trial.is_right([apart[name]])]
        for layer in trial.used:
            calls = axes.get(layer.name, ())
            if wrong[0] in {owned.name for owned in layer.parameters} and any(
                None in c.outputs for c in calls
            ):
                raise _UnfitError(f"The output of {layer.title} has no axis of samples of its own")
        raise _UnfitError(
            f"The calls of the chosen layers do not give the whole gradient of {', '.join(wrong[:5])}"
        )
    return apart


def _last_resort(trial: _Trial) -> tuple[Projector, dict[str, float]]:
    """By the whole loss: a sample alone, or beside a copy of itself if the model cannot take one."""
    for copies_needed in (1, 2):
        try:
            apart = trial.differences(trial.autograd(trial.copies(copies_needed)))
        except Exception as error:
            if is_out_of_memory(error) or copies_needed > 1:
                raise
            continue
        if trial.is_right(apart.values()):
            return trial.projector({}, 1, copies_needed), apart
    name = max(apart, key=apart.__getitem__)
    owner = next(layer for layer in trial.used if any(owned.name == name for owned in layer.parameters))
    raise ModelError(
        f"the gradient of {name} in layer {owner.title} is not the same twice: two passes over the same sample differ by "
        f"{apart[name]:.1%}; take randomness and state that outlives a pass out of the model's eval mode, or choose "
        "layers after it"
    )


def _autograd(
    seen: Observation, chosen: Sequence[Layer], parameters: Sequence[OwnedParameter]
) -> list[Tensor]:
    titles = ", ".join(layer.title for layer in chosen)
    if not any(seen.reaches_loss(layer) for layer in chosen):
        raise ModelError(
            f"the loss does not depend on any chosen layer ({titles}): there is no gradient to compare; choose layers on "
            "the way to the loss, and keep detach() and no_grad away from it"
        )
    try:
        return seen.gradients(parameters)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ModelError(
            f"autograd cannot go back from the loss to the chosen layers ({titles}): {type(error).__name__}: {error}; "
            "choose layers after what has no derivative, or give it one"
        ) from error


def _frozen_beside_others(layers: Mapping[str, Layer]) -> set[str]:
    """Names of the layers without any trainable parameter, if other parameters of the model are trainable."""
    frozen = {
        name
        for name, layer in layers.items()
        if not any(owned.parameter.requires_grad for owned in layer.parameters)
    }
    return frozen if len(frozen) < len(layers) else set()


def _call_axes(trial: _Trial, calls: Mapping[str, Sequence[SeenCall]], m: int) -> dict[str, list[CallAxes]]:
    """The axes of each layer's calls, from passes over m and over m + 1 copies of one sample."""
    used = {layer.name: layer for layer in trial.used}
    with undone(trial.written):
        larger = shapes_seen(trial.model, used, trial.copies(m + 1).inputs)
    if any(len(calls.get(name, ())) != len(larger.get(name, ())) for name in used):
        raise _UnfitError("The model calls its layers another number of times for another number of samples")
    return {
        name: [
            CallAxes(_axes(call.given, other.given, m), _axes(call.outputs, other.outputs, m))
            for call, other in zip(calls.get(name, ()), larger.get(name, ()), strict=True)
        ]
        for name in used
    }


def _axes(few: Shapes, more: Shapes, m: int) -> tuple[int | None, ...]:
    return tuple(
        None if left is None or right is None else sample_axis(left, right, m)
        for left, right in zip(few, more, strict=False)
    )


def _place_is_irrelevant(trial: _Trial, projector: Projector) -> bool:
    """Whether samples have the same vector, bit for bit, at every place in the tile and beside any others.

    With rows of, say, 50 numbers every other row starts at an odd address, and MKL's products round it otherwise. Raises
    ModelError if a vector is another one altogether: a large tile mixes samples, although a small one did not.
    """
    tile = projector.tile
    pool = mixed(trial.copies(tile), trial.classes)
    places = torch.arange(tile) % _DISTINCT
    places = places[torch.randperm(tile, generator=torch.Generator().manual_seed(0))]
    repeated = projector.project(*_rows(pool, tile - 1 - places))
    shifted = torch.arange(tile).roll(tile // 2 + 1)
    once = projector.project(*_rows(pool, shifted))
    where = torch.argsort(shifted)[
        tile - 1 - places
    ].numpy()  # the place of each repeated sample in the other tile
    if np.array_equal(repeated.vectors, once.vectors[where]) and np.array_equal(
        repeated.norms, once.norms[where], equal_nan=True
    ):
        return True
    apart = np.linalg.norm(repeated.vectors - once.vectors[where], axis=1)
    if not trial.is_right(apart.tolist()):
        trial.require_apart(tile)
    return False


def _rows(batch: ProbeBatch, rows: Tensor) -> tuple[Tensor, Tensor | None]:
    rows = rows.to(batch.inputs.device)
    return batch.inputs[rows], None if batch.labels is None else batch.labels[rows]
