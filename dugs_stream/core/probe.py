"""Start-up probe of a model through one example: independence of its samples, and the calls of its chosen layers.

A model or loss that mixes samples is refused (`core.mixing`). Each chosen layer's calls are then compared for m and
for m + 1 samples, which shows the axis that counts the samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from dugs_stream.core.gradients.capture import CallAxes, Capture, capture, inference
from dugs_stream.core.gradients.layers import (
    ChosenLayer,
    Layer,
    TiedParameter,
    choose_layers,
    parameter_layers,
    tied,
)
from dugs_stream.core.gradients.losses import Loss
from dugs_stream.core.gradients.paths import fast_path
from dugs_stream.core.mixing import (
    ProbeBatch,
    copies,
    mixed,
    refuse_mixing_loss,
    refuse_mixing_modules,
    sample_axis,
)
from dugs_stream.core.projector import Projector, model_errors
from dugs_stream.core.sketch.count_sketch import Sketch
from dugs_stream.errors import ModelError


@dataclass(frozen=True)
class Probe:
    """The probe's findings.

    layers   the chosen layers in the order in which a forward pass enters them
    classes  width of the logits for a classification loss, None for a user's function
    tile     samples computed together: as asked for, or 1 if this model's bits depend on the place in a tile
    tied     parameters of chosen layers that other layers use too
    """

    layers: tuple[ChosenLayer, ...]
    classes: int | None
    tile: int
    tied: tuple[TiedParameter, ...]


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

    Raises ModelError, naming the layer: samples are mixed; a chosen layer never runs, or has an output without
    an axis of samples; a glob matches nothing; no chosen layer reaches the loss.
    """

    def captured(batch: ProbeBatch) -> Capture:
        return capture(model, chosen, batch.inputs, batch.labels, loss, set())

    layers = parameter_layers(model)
    few, more = (copies(example, label, m, sketch.device) for m in (tile, tile + 1))
    with inference(model), model_errors(few.inputs):
        entered, outputs = refuse_mixing_modules(model, layers, few, more, mixed(few, None))
        chosen = choose_layers(model, wanted, layers, entered)
        is_matrix = isinstance(outputs, Tensor) and outputs.dim() == 2  # noqa: PLR2004 -- samples by classes
        classes = int(outputs.shape[1]) if loss.is_classification and is_matrix else None
        alone = captured(few)
        _require_gradients(alone, chosen)
        axes = _call_axes(chosen, alone, captured(more))
        among = mixed(few, classes)
        refuse_mixing_loss(loss, alone, captured(among), among)
    projector = Projector(model, chosen, axes, loss, sketch, tile)
    if not _place_is_irrelevant(projector, among):
        projector = Projector(model, chosen, axes, loss, sketch, 1)
    described = tuple(
        ChosenLayer(layer.name, layer.kind, fast_path(layer) is not None, layer.size) for layer in chosen
    )
    return Probe(described, classes, projector.tile, tied(layers, chosen)), projector


def _require_gradients(captured: Capture, chosen: Sequence[Layer]) -> None:
    if all(gradient is None for call in captured.calls for gradient in call.gradients):
        raise ModelError(
            f"the loss does not depend on any chosen layer ({', '.join(layer.title for layer in chosen)}): there is "
            "no gradient to compare; choose layers on the way to the loss, and keep detach() and no_grad away from it"
        )


def _call_axes(chosen: Sequence[Layer], few: Capture, more: Capture) -> dict[str, list[CallAxes]]:
    """The axes of each layer's calls, from captures of m and of m + 1 copies of one sample."""
    m = few.losses.shape[0]
    found: dict[str, list[CallAxes]] = {layer.name: [] for layer in chosen}
    for call, larger in zip(few.calls, more.calls, strict=True):
        inputs = tuple(_axis_of(*pair, m) for pair in zip(call.inputs, larger.inputs, strict=True))
        outputs = tuple(_axis_of(*pair, m) for pair in zip(call.outputs, larger.outputs, strict=True))
        for axis, gradient in zip(outputs, call.gradients, strict=True):
            if gradient is not None and axis is None:
                raise ModelError(
                    f"the output of {call.layer.title} has no axis of samples: its shape is {tuple(gradient.shape)} for "
                    f"{m} samples, so a sample's own gradient cannot be told from the others'; keep samples on an axis "
                    "of their own (no flattening of samples and positions into one), or choose other layers"
                )
        found[call.layer.name].append(CallAxes(inputs, outputs))
    return found


def _axis_of(few: Any, more: Any, m: int) -> int | None:
    if not isinstance(few, Tensor) or not isinstance(more, Tensor):
        return None
    return sample_axis(few.shape, more.shape, m)


def _place_is_irrelevant(projector: Projector, batch: ProbeBatch) -> bool:
    """Whether each of m samples has the same vector, bit for bit, at every place in the tile.

    With rows of, say, 50 numbers every other row starts at an odd address, and MKL's products round it otherwise.
    """
    vectors = projector.project(batch.inputs, batch.labels).vectors
    for shift in {1, 3, len(vectors) // 2}:
        labels = None if batch.labels is None else batch.labels.roll(shift, dims=0)
        moved = projector.project(batch.inputs.roll(shift, dims=0), labels).vectors
        if not np.array_equal(moved, np.roll(vectors, shift, axis=0)):
            return False
    return True
