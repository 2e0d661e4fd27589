"""Local vector-Jacobian product: the gradient of any layer without a fast path, one sample at a time.

The layer alone runs again from its captured inputs, and back from its output gradients: right for every module that
treats samples apart, slow, and bounded in memory by a few formed gradients.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from dugs_stream.core.gradients.capture import CallAxes, LayerCall
from dugs_stream.core.gradients.layers import Layer
from dugs_stream.core.sketch.count_sketch import Sketch, pairwise_sum
from dugs_stream.core.sketch.scaling import ScaledSum, magnitude_exponents, times_power_of_two

_FORMED_NUMBERS = 1 << 22
"""Numbers of formed gradients held at once, 16 MiB in float32; at least those of one sample."""


def add_terms(total: ScaledSum, call: LayerCall, axes: CallAxes, sketch: Sketch) -> None:
    """Add the sketched gradients (m, k) of the layer's parameters from one call of it to `total`."""
    # In a dtype whose exponents we can write: half precision is widened, which loses nothing.
    moved = [
        gradient.movedim(axis, 0).to(torch.promote_types(gradient.dtype, torch.float32))
        if gradient is not None and axis is not None
        else None
        for gradient, axis in zip(call.gradients, axes.outputs, strict=True)
    ]
    present = [leaf for leaf in moved if leaf is not None]
    if not present:
        return
    scale = torch.stack([magnitude_exponents(leaf) for leaf in present]).amax(dim=0)  # (m,)
    gradients = [None if leaf is None else times_power_of_two(leaf, -scale) for leaf in moved]
    m, step = len(scale), max(1, _FORMED_NUMBERS // max(call.layer.size, 1))
    vectors, exponents = [], []
    for start in range(0, m, step):
        samples = range(start, min(start + step, m))
        formed = [_sample_gradients(call, axes, gradients, sample) for sample in samples]
        sketched, own = _sketched(formed, call.layer, sketch, total.dtype)
        vectors.append(sketched)
        exponents.append(own)
    total.add(torch.cat(vectors), scale + torch.cat(exponents))


def _sample_gradients(
    call: LayerCall, axes: CallAxes, gradients: Sequence[Tensor | None], sample: int
) -> list[Tensor]:
    """The gradient of one sample for each of the layer's own parameters, in their order and shapes.

    gradients: of each output leaf (m, …), None if it has none.
    """
    layer = call.layer
    inputs = [_sample_of(leaf, axis, sample) for leaf, axis in zip(call.inputs, axes.inputs, strict=True)]
    args, kwargs = pytree.tree_unflatten(inputs, call.input_structure)
    parameters = {
        owned.local: owned.parameter.detach().clone().requires_grad_() for owned in layer.parameters
    }
    with torch.enable_grad():
        # Untied: a parameter under two names of its own is used twice, and the caller's map adds both up.
        outputs = torch.func.functional_call(layer.module, parameters, args, kwargs, tie_weights=False)
        leaves, _ = pytree.tree_flatten(outputs)
        pairs = [
            (leaf, gradient[sample].unsqueeze(axis).to(leaf.dtype))
            for leaf, gradient, axis in zip(leaves, gradients, axes.outputs, strict=True)
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


def _sketched(
    formed: list[list[Tensor]], layer: Layer, sketch: Sketch, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Formed gradients, one list of parameters a sample → vectors (s, k) × 2^exponents (s,)."""
    stacks = [torch.stack(parts).to(dtype) for parts in zip(*formed, strict=True)]
    exponents = torch.stack([magnitude_exponents(stack) for stack in stacks]).amax(dim=0)  # (s,)
    sketched = [
        sketch.parameter(owned.name, owned.parameter.shape).dense(times_power_of_two(stack, -exponents))
        for owned, stack in zip(layer.parameters, stacks, strict=True)
    ]
    return pairwise_sum(torch.stack(sketched), axis=0), exponents


def _sample_of(leaf: Any, axis: int | None, sample: int) -> Any:
    """The sample's own part of an input, copied, since the module may write into it."""
    if not isinstance(leaf, Tensor):
        return leaf
    return leaf.clone() if axis is None else leaf.narrow(axis, sample, 1).clone()
