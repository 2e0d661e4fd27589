"""Start-up probe of a model through one example: right, slow or refused, before the first record is judged.

The engine's own gradient of one sample, among neighbours, is held against plain autograd of the same loss, parameter by
parameter (`core.trial`). What differs goes by the whole loss, a sample at a time (`core.gradients.whole`). Costs seven
samples and two tiles forward, four samples and two tiles back; one tile where only a length is new; two samples more
where pictures were to lie channels last and do not. Where the tile is to be chosen, the tiles that are timed are the most of it, some
tens of samples of a heavy model; of these runs the trial of places takes its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dugs_stream.core import remarks
from dugs_stream.core.gradients.inference import inference
from dugs_stream.core.gradients.kinds.registry import fast_paths, needs_trial
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
from dugs_stream.core.gradients.memory import is_out_of_memory
from dugs_stream.core.gradients.observation import Observation, observe
from dugs_stream.core.loss_trial import require_samples_apart
from dugs_stream.core.losses.loss import Loss
from dugs_stream.core.losses.outputs import logits_of
from dugs_stream.core.mixing import copies, neighbours
from dugs_stream.core.model_writes import WriteWatch
from dugs_stream.core.projector import Projector, model_errors
from dugs_stream.core.samples import Inputs, batch_of_one, sample_at
from dugs_stream.core.sketch.count_sketch import Sketch
from dugs_stream.core.tiling import AutoTile, Timing
from dugs_stream.core.trial import Trial
from dugs_stream.errors import ModelError

_FIRST_NUMBERS = 2**14


@dataclass(frozen=True)
class Probe:
    """The probe's findings.

    layers          the chosen layers in the order in which a forward pass enters them
    classes         width of the logits for a classification loss, None for a user's function
    tile            samples computed together: as asked for or chosen, or 1 if this model's bits depend on the place in a tile
    kept_tile       what a later probe of such samples has to ask for, so that it finds the same
    timings         what tiles took, if the tile was chosen by it
    tied            parameters of chosen layers that other layers use too
    is_last_resort  whether the whole loss runs back for each sample: right, and slow
    remarks         what the model's owner should know, in sentences
    """

    layers: tuple[ChosenLayer, ...]
    classes: int | None
    tile: int
    tied: tuple[TiedParameter, ...]
    is_last_resort: bool = False
    remarks: tuple[str, ...] = ()
    kept_tile: int = 1
    timings: tuple[Timing, ...] = ()


def probe_model(
    model: nn.Module,
    wanted: int | Sequence[str],
    loss: Loss,
    sketch: Sketch,
    tile: int | AutoTile,
    example: Inputs,
    label: Tensor | None,
    *,
    is_further: bool = False,
) -> tuple[Probe, Projector]:
    """Probe the model through one example (without a sample axis, finite) and its label.

    is_further: the model was probed through samples that differ only in their lengths.

    Raises ModelError, naming the layer: samples are mixed; a chosen layer never runs; a glob matches nothing; no chosen
    layer reaches the loss; autograd cannot go back to it, or not twice the same way.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise ModelError(
            "the model is TorchScript, which takes no hooks: give the Python model that it was made from"
        )
    born = [name for name, each in model.named_parameters() if each.is_inference()]
    if born:
        raise ModelError(
            f"parameters of the model were made inside torch.inference_mode() and can have no gradient ({born[0]} is one of "
            f"{len(born)}): build the model outside of it; torch.no_grad() does no harm"
        )
    most = tile.most if isinstance(tile, AutoTile) else tile
    layers = parameter_layers(model)
    frozen = _frozen_beside_others(layers)
    with model_errors(batch_of_one(example)), inference(model):
        for sample in _examples(example):
            few = copies(sample, label, min(2, most), sketch.device)
            with WriteWatch(model) as watch:
                seen = observe(model, layers, few.inputs, few.labels, loss)
                ran = seen.order(layers)
                reaching = {name for name in ran if seen.reaches_loss(layers[name])}
                chosen = choose_layers(model, wanted, layers, ran, reaching - frozen or reaching)
                parameters = {owned.name: owned for layer in chosen for owned in layer.parameters}
                # Before what the model wrote is undone: the way back goes through it.
                expected = _autograd(seen, chosen, list(parameters.values()))
            if _tells(chosen, list(parameters), expected):
                break
        if loss.is_own:
            require_samples_apart(loss, seen.outputs, few.labels, few.inputs)
        classes = int(logits_of(seen.outputs).shape[1]) if loss.is_classification else None
        fit = Trial(
            model=model,
            loss=loss,
            sketch=sketch,
            used=(*chosen, *sharing(layers, chosen)),
            parameters=tuple(parameters.values()),
            expected=expected,
            calls=seen.calls,
            outside=seen.used_outside(parameters.values(), layers),
            m=len(few),
            written=watch.written,
            classes=classes,
            example=sample,
            label=label,
            is_further=is_further,
        ).fit(tile)
        said = (
            *remarks.on_choice(wanted, chosen, ran, reaching, frozen),
            *remarks.on_precision(chosen),
            *remarks.on_writes(watch.written),
            *(remarks.on_outputs(logits_of(seen.outputs)) if classes else ()),
            *remarks.on_last_resort(fit.reason, is_batched=fit.projector.tile > 1),
        )
    described = tuple(
        ChosenLayer(
            layer.name,
            layer.kind,
            "whole" if fit.projector.is_last_resort else fit.projector.paths.label(layer),
            layer.size,
            max(fit.apart[owned.name] for owned in layer.parameters),
        )
        for layer in chosen
    )
    ties = tied(layers, chosen)
    kept = fit.sizes.taken, fit.sizes.timings
    found = Probe(described, classes, fit.projector.tile, ties, fit.projector.is_last_resort, said, *kept)
    return found, fit.projector


def _tells(chosen: Sequence[Layer], names: Sequence[str], expected: Sequence[Tensor]) -> bool:
    """Whether these gradients show if a path is right: one of zero would agree with everything."""
    untried = {name for name, gradient in zip(names, expected, strict=True) if not _is_any(gradient)}
    return len(untried) < len(names) and not any(
        needs_trial(path, layer)
        for layer in chosen
        if any(owned.name in untried for owned in layer.parameters)
        for path in fast_paths(layer)[:1]
    )


def _is_any(gradient: Tensor) -> bool:
    """Whether a number in it is not zero; its first thousands show it in nearly every case."""
    return any(bool(part.any()) for part in (gradient.reshape(-1)[:_FIRST_NUMBERS], gradient))


def _examples(example: Inputs) -> Iterator[Inputs]:
    """The example, and others like it, in case that its gradient, or a layer's part of it, is zero."""
    yield example
    others = neighbours(example, 3)
    yield from (sample_at(others, place) for place in range(2))


def _autograd(
    seen: Observation, chosen: Sequence[Layer], parameters: Sequence[OwnedParameter]
) -> list[Tensor]:
    titles = ", ".join(layer.title for layer in chosen)
    if not any(seen.reaches_loss(layer) for layer in chosen):
        raise ModelError(
            f"the loss does not depend on any chosen layer ({titles}): there is no gradient to compare; choose layers on "
            "the way to the loss, and keep detach() and no_grad away from it"
        )
    lost = seen.without_backward(parameters)
    if lost:
        raise ModelError(
            f"the loss depends on {', '.join(lost[:5])} through a kernel that has no backward pass (of a quantised layer, or a "
            "custom operator without register_autograd): their gradient would be wrong; choose layers after it"
        )
    try:
        return seen.gradients(parameters)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ModelError(
            f"autograd cannot go back from the loss to the chosen layers ({titles}): {type(error).__name__}: {error}; "
            "choose layers after what has no derivative, or give it one"
        ) from None  # no cause: it is the model that is refused, not the sample


def _frozen_beside_others(layers: Mapping[str, Layer]) -> set[str]:
    """Names of the layers without any trainable parameter, if other parameters of the model are trainable."""
    frozen = {
        name
        for name, layer in layers.items()
        if not any(owned.parameter.requires_grad for owned in layer.parameters)
    }
    return frozen if len(frozen) < len(layers) else set()
