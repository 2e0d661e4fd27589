"""What gradient does one sample give a layer that has no fast path? The layer alone is run again, and back.

A local vector-Jacobian product from the caught inputs and output gradients, one sample at a time: right for
every module that treats samples apart, bounded to one sample's gradient in memory, and slow.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from dugs_stream.core.gradients.capture import LayerCall
from dugs_stream.core.sketch.scaling import magnitude_exponents, times_power_of_two


@dataclass(frozen=True)
class CallAxes:
    """Which axis of each input and output leaf of a layer's call counts the samples; None: shared by all."""

    inputs: tuple[int | None, ...]
    outputs: tuple[int | None, ...]


@dataclass(frozen=True, eq=False)
class OutputGradients:
    """The output gradients of a use × 2^−exponents (m,): a tensor (m, …) a leaf, None where there is no gradient."""

    leaves: tuple[Tensor | None, ...]
    exponents: Tensor


def scaled_output_gradients(use: LayerCall, axes: CallAxes) -> OutputGradients | None:
    """All gradients of a use at one scale a sample; None where no output has a gradient."""
    moved = [
        gradient.movedim(axis, 0).to(_exact(gradient.dtype))
        if gradient is not None and axis is not None
        else None
        for gradient, axis in zip(use.gradients, axes.outputs, strict=True)
    ]
    present = [leaf for leaf in moved if leaf is not None]
    if not present:
        return None
    exponents = torch.stack([magnitude_exponents(leaf) for leaf in present]).amax(dim=0)
    scaled = (None if leaf is None else times_power_of_two(leaf, -exponents) for leaf in moved)
    return OutputGradients(tuple(scaled), exponents)


def local_gradients(use: LayerCall, axes: CallAxes, gradients: OutputGradients, sample: int) -> list[Tensor]:
    """The gradient of this sample for each of the layer's own parameters, in their order and shapes."""
    layer = use.layer
    inputs = [_alone(leaf, axis, sample) for leaf, axis in zip(use.inputs, axes.inputs, strict=True)]
    args, kwargs = pytree.tree_unflatten(inputs, use.input_structure)
    parameters = {
        owned.local: owned.parameter.detach().clone().requires_grad_() for owned in layer.parameters
    }
    with torch.enable_grad():
        # Untied: a parameter under two names of its own has two uses, which the caller's map adds up.
        outputs = torch.func.functional_call(layer.module, parameters, args, kwargs, tie_weights=False)
        leaves, _ = pytree.tree_flatten(outputs)
        pairs = [
            (leaf, gradient[sample].unsqueeze(axis).to(leaf.dtype))
            for leaf, gradient, axis in zip(leaves, gradients.leaves, axes.outputs, strict=True)
            if gradient is not None and axis is not None and leaf.requires_grad
        ]
        found: Sequence[Tensor | None] = [None] * len(parameters)
        if pairs:
            found = torch.autograd.grad(
                [leaf for leaf, _ in pairs],
                list(parameters.values()),
                [gradient for _, gradient in pairs],
                allow_unused=True,
            )
    return [
        torch.zeros_like(owned.parameter) if gradient is None else gradient
        for owned, gradient in zip(layer.parameters, found, strict=True)
    ]


def _alone(leaf: Any, axis: int | None, sample: int) -> Any:
    """The sample's own part of an input, copied, since the module may write into it."""
    if not isinstance(leaf, Tensor):
        return leaf
    return leaf.clone() if axis is None else leaf.narrow(axis, sample, 1).clone()


def _exact(dtype: torch.dtype) -> torch.dtype:
    """A dtype whose exponents we can write: half precision is widened, which loses nothing."""
    return dtype if dtype == torch.float64 else torch.float32
