"""Does this model judge every sample on its own, and how are its chosen layers called? Asked once, at the start.

The same sample runs among copies of itself and among strangers. Whatever module returns something else for it
mixes samples, and the model is refused by that module's name: a verdict would depend on who came along. Then
each chosen layer's calls are looked at in two sizes of company, which tells the axis that counts the samples.

Limits: one example is looked at. A model that mixes samples only for certain inputs passes.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from dugs_stream.core.company import copies, strangers
from dugs_stream.core.gradients.capture import Capture, LayerCall, catch, inference
from dugs_stream.core.gradients.layers import (
    ChosenLayer,
    Layer,
    TiedParameter,
    choose_layers,
    parameter_layers,
    tied,
)
from dugs_stream.core.gradients.losses import Loss
from dugs_stream.core.gradients.vjp import CallAxes
from dugs_stream.core.projector import Projector, model_errors
from dugs_stream.core.sketch.count_sketch import Sketch
from dugs_stream.errors import ModelError

_TOLERANCE = 1e-3
"""Relative difference above which samples are said to mix. Company changes float32 results by up to about 1e-5
where kernels round differently; a model that mixes samples changes them by far more, with strangers this strange."""


@dataclass(frozen=True)
class Probe:
    """What the probe found.

    layers   the chosen layers in the order in which a forward pass enters them
    classes  width of the logits for a classification loss, None for a user's function
    tile     samples computed together: as asked for, or 1 where this model's bits depend on the place in a tile
    tied     parameters of chosen layers that other layers use too
    """

    layers: tuple[ChosenLayer, ...]
    classes: int | None
    tile: int
    tied: tuple[TiedParameter, ...]


@dataclass(frozen=True)
class _Party:
    """A sample's company: inputs (m, …), labels (m,) or None, and the sample's own place in it."""

    inputs: Tensor
    labels: Tensor | None
    place: int


def probe_model(
    model: nn.Module,
    wanted: int | Sequence[str],
    loss: Loss,
    sketch: Sketch,
    tile: int,
    example: Tensor,
    label: Tensor | None,
) -> tuple[Probe, Projector]:
    """Look at the model through one example (without a sample axis, finite) and its label (a scalar).

    Raises ModelError, naming the layer: samples are mixed; a chosen layer never runs, or has an output without
    an axis of samples; a glob matches nothing; no chosen layer reaches the loss.
    """
    layers = parameter_layers(model)
    alike = _alike(example, label, tile, sketch.device)
    more_alike = _alike(example, label, tile + 1, sketch.device)
    with inference(model), model_errors(alike.inputs):
        entered, outputs = _refuse_mixing_modules(
            model, layers, alike, more_alike, _among_strangers(alike, None)
        )
        chosen = choose_layers(model, wanted, layers, entered)
        classes = int(outputs.shape[1]) if loss.is_classification and _is_matrix(outputs) else None
        caught = catch(model, chosen, alike.inputs, alike.labels, loss, set())
        _require_gradients(caught, chosen)
        axes = _call_axes(
            chosen, caught, catch(model, chosen, more_alike.inputs, more_alike.labels, loss, set())
        )
        among = _among_strangers(alike, classes)
        _refuse_mixing_loss(
            loss, caught, catch(model, chosen, among.inputs, among.labels, loss, set()), among
        )
    projector = Projector(model, chosen, axes, loss, sketch, tile)
    if not _place_is_irrelevant(projector, among):
        projector = Projector(model, chosen, axes, loss, sketch, 1)
    described = tuple(ChosenLayer(layer.name, layer.kind, layer.is_fast, layer.size) for layer in chosen)
    return Probe(described, classes, projector.tile, tied(layers, chosen)), projector


def _alike(example: Tensor, label: Tensor | None, m: int, device: torch.device) -> _Party:
    labels = None if label is None else label.expand(m).clone().to(device)
    return _Party(copies(example, m).to(device), labels, 0)


def _among_strangers(alike: _Party, classes: int | None) -> _Party:
    """The sample in the middle of others, whose labels differ too where there are classes to choose from."""
    m = alike.inputs.shape[0]
    place = m // 2
    labels = alike.labels
    if labels is not None and classes is not None:
        labels = (labels + torch.arange(m, device=labels.device) - place) % classes
    return _Party(strangers(alike.inputs[0].cpu(), m, place).to(alike.inputs.device), labels, place)


def _refuse_mixing_modules(
    model: nn.Module, layers: Mapping[str, Layer], alike: _Party, more_alike: _Party, among: _Party
) -> tuple[list[str], Any]:
    """Compare every module's output for the sample, in order of execution; → layers as entered, the outputs."""
    names, shapes, _, _ = _trace(model, alike.inputs, _shape)
    more_names, more_shapes, _, _ = _trace(model, more_alike.inputs, _shape)
    if names != more_names:
        raise ModelError(
            f"the model runs other modules for {len(more_alike.inputs)} samples than for {len(alike.inputs)}; "
            "every sample must take the same way whatever its company"
        )
    axes = [
        [_comparable_axis(*pair, len(alike.inputs)) for pair in zip(few, more, strict=True)]
        for few, more in zip(shapes, more_shapes, strict=True)
    ]
    _, own, entered, outputs = _trace(model, alike.inputs, _row_of(axes, alike.place))
    others, other, _, _ = _trace(model, among.inputs, _row_of(axes, among.place))
    if others != names:
        raise ModelError(
            "the model runs other modules when a sample is among others; it must not depend on them"
        )
    modules = dict(model.named_modules())
    for name, left, right in zip(names, own, other, strict=True):
        if any(_differ(a, b) for a, b in zip(left, right, strict=True)):
            raise ModelError(
                f"{name or 'the model itself'} ({type(modules[name]).__name__}) mixes samples: its output for a sample "
                "changes with the other samples of the batch (or is random). A verdict would depend on company; "
                "use a layer that treats samples apart, such as BatchNorm in eval mode, LayerNorm or GroupNorm"
            )
    ran = [name for name in reversed(entered) if name in layers]
    return list(dict.fromkeys(ran))[::-1], outputs  # by its last call, where a layer is called several times


def _trace(
    model: nn.Module, inputs: Tensor, keep: Callable[[int, int, Tensor], Any]
) -> tuple[list[str], list[list[Any]], list[str], Any]:
    """A forward pass → names as they returned, what `keep` kept of their tensors, names as entered, the outputs."""
    names: list[str] = []
    kept: list[list[Any]] = []
    entered: list[str] = []
    with contextlib.ExitStack() as hooks:
        for name, module in model.named_modules():

            def enter(_module: nn.Module, _args: Any, name: str = name) -> None:
                entered.append(name)

            def leave(_module: nn.Module, _args: Any, output: Any, name: str = name) -> None:
                leaves = [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]
                kept.append([keep(len(names), place, leaf) for place, leaf in enumerate(leaves)])
                names.append(name)

            hooks.callback(module.register_forward_pre_hook(enter).remove)
            hooks.callback(module.register_forward_hook(leave).remove)
        outputs = model(inputs.clone())
    return names, kept, entered, outputs


def _shape(_call: int, _leaf: int, tensor: Tensor) -> torch.Size:
    return tensor.shape


def _row_of(
    axes: list[list[int | Literal["unknown"] | None]], place: int
) -> Callable[[int, int, Tensor], Tensor | None]:
    """Keep the sample's own part, copied since an in-place activation may follow; all of what has no samples."""

    def keep(call: int, leaf: int, tensor: Tensor) -> Tensor | None:
        if call >= len(axes) or leaf >= len(axes[call]):
            return None
        axis = axes[call][leaf]
        if axis == "unknown":
            return None
        return tensor.clone() if axis is None else tensor.select(axis, place).clone()

    return keep


def _sample_axis(few: torch.Size, more: torch.Size, m: int) -> int | None:
    """The one axis that is m long for m samples and m + 1 for one more, all others being equal; else None."""
    if len(few) != len(more):
        return None
    changed = [axis for axis, (left, right) in enumerate(zip(few, more, strict=True)) if left != right]
    if len(changed) != 1 or (few[changed[0]], more[changed[0]]) != (m, m + 1):
        return None
    return changed[0]


def _comparable_axis(few: torch.Size, more: torch.Size, m: int) -> int | Literal["unknown"] | None:
    """The axis of samples; None where company does not show; "unknown" where samples share an axis with others."""
    axis = _sample_axis(few, more, m)
    return "unknown" if axis is None and few != more else axis


def _differ(left: Tensor | None, right: Tensor | None) -> bool:
    if left is None or right is None:
        return False
    if left.shape != right.shape:
        return True
    if not (left.is_floating_point() or left.is_complex()):
        return not torch.equal(left, right)
    scale = (
        torch.nan_to_num(left.abs().to(torch.float64), nan=0.0, posinf=0.0).amax() if left.numel() else 0.0
    )
    same = torch.isclose(
        left.to(torch.complex128),
        right.to(torch.complex128),
        rtol=0,
        atol=_TOLERANCE * float(scale),
        equal_nan=True,
    )
    return not bool(same.all())


def _require_gradients(caught: Capture, chosen: Sequence[Layer]) -> None:
    if all(gradient is None for use in caught.uses for gradient in use.gradients):
        raise ModelError(
            f"the loss does not depend on any chosen layer ({', '.join(layer.title for layer in chosen)}): there is "
            "no gradient to compare; choose layers on the way to the loss, and keep detach() and no_grad away from it"
        )


def _call_axes(chosen: Sequence[Layer], caught: Capture, more: Capture) -> dict[str, list[CallAxes]]:
    m = caught.losses.shape[0]
    found: dict[str, list[CallAxes]] = {layer.name: [] for layer in chosen}
    for use, larger in zip(caught.uses, more.uses, strict=True):
        inputs = tuple(_axis_of(*pair, m) for pair in zip(use.inputs, larger.inputs, strict=True))
        outputs = tuple(_axis_of(*pair, m) for pair in zip(use.outputs, larger.outputs, strict=True))
        for axis, gradient in zip(outputs, use.gradients, strict=True):
            if gradient is not None and axis is None:
                _refuse_without_axis(use, gradient, m)
        found[use.layer.name].append(CallAxes(inputs, outputs))
    return found


def _axis_of(few: Any, more: Any, m: int) -> int | None:
    if not isinstance(few, Tensor) or not isinstance(more, Tensor):
        return None
    return _sample_axis(few.shape, more.shape, m)


def _refuse_without_axis(use: LayerCall, gradient: Tensor, m: int) -> None:
    raise ModelError(
        f"the output of {use.layer.title} has no axis of samples: its shape is {tuple(gradient.shape)} for {m} "
        "samples, so a sample's own gradient cannot be told from the others'; keep samples on an axis of their own "
        "(no flattening of samples and positions into one), or choose other layers"
    )


def _refuse_mixing_loss(loss: Loss, alike: Capture, among: Capture, party: _Party) -> None:
    """A sample's loss and its gradients at the chosen outputs must not depend on company."""
    pairs = [(alike.losses[0], among.losses[party.place])]
    for use, other in zip(alike.uses, among.uses, strict=True):
        for gradient, strange in zip(use.gradients, other.gradients, strict=True):
            if gradient is not None and strange is not None and gradient.shape[0] == len(party.inputs):
                pairs.append((gradient[0], strange[party.place]))
    if any(_differ(left.detach(), right.detach()) for left, right in pairs):
        raise ModelError(
            f"the loss {loss.name} mixes samples: a sample's loss or gradient changes with the other samples of the "
            "batch; give a loss that treats samples apart (no means, ranks or contrasts over the batch)"
        )


def _place_is_irrelevant(projector: Projector, among: _Party) -> bool:
    """Whether each of m samples has the same vector, bit for bit, wherever in the tile it stands.

    With rows of, say, 50 numbers every other row starts at an odd address, and MKL's products round it otherwise.
    """
    vectors = projector.project(among.inputs, among.labels).vectors
    for shift in {1, 3, len(vectors) // 2}:
        labels = None if among.labels is None else among.labels.roll(shift, dims=0)
        moved = projector.project(among.inputs.roll(shift, dims=0), labels).vectors
        if not np.array_equal(moved, np.roll(vectors, shift, axis=0)):
            return False
    return True


def _is_matrix(outputs: Any) -> bool:
    return isinstance(outputs, Tensor) and outputs.dim() == 2  # noqa: PLR2004 -- samples by classes
