"""Local vector-Jacobian product of many samples at once: `core.gradients.vjp` vectorised by torch.func.vmap.

For every layer without a fast path whose forward vmap can take (no data-dependent control flow, no kernels without a
batching rule). The probe finds out; what vmap cannot take, or gives other bits in another place, goes a sample at a time.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from dugs_stream.core.gradients.capture import CallAxes, LayerCall
from dugs_stream.core.gradients.vectorised import attributes_kept, vectorised
from dugs_stream.core.gradients.vjp import (
    as_real,
    equal_parts,
    formed_at_once,
    require_linear_backward,
    scaled_gradients,
    sketch_formed,
    widened,
    widened_state,
    without_hooks_on_outputs,
)
from dugs_stream.core.sketch.count_sketch import Sketch
from dugs_stream.core.sketch.scaling import ScaledSum


def add_terms(total: ScaledSum, call: LayerCall, axes: CallAxes, sketch: Sketch) -> None:
    """Add the sketched gradients (m, k) of the layer's parameters from one call of it to `total`."""
    gradients, scale = scaled_gradients(call, axes)
    if scale is None:
        return
    m = len(scale)
    step = equal_parts(m, formed_at_once(call.layer.size))
    state = widened_state(call.layer.module)
    vectors, exponents = [], []
    for start in range(0, m, step):
        stacks = _gradients(call, axes, gradients, slice(start, start + step), state)
        sketched, own = sketch_formed(stacks, call.layer.parameters, sketch, total.dtype)
        vectors.append(sketched)
        exponents.append(own)
    total.add(torch.cat(vectors), scale + torch.cat(exponents))


def formed(call: LayerCall, axes: CallAxes, sample: int) -> list[Tensor]:
    """The gradient of one sample for each of the layer's own parameters, in their order and shapes."""
    require_linear_backward(call)
    moved = [
        None if gradient is None or axis is None else gradient.movedim(axis, 0)
        for gradient, axis in zip(call.gradients, axes.outputs, strict=True)
    ]
    stacks = _gradients(call, axes, moved, slice(None), widened_state(call.layer.module))
    return [stack[sample] for stack in stacks]


def _gradients(
    call: LayerCall,
    axes: CallAxes,
    gradients: Sequence[Tensor | None],
    which: slice,
    state: dict[str, Tensor],
) -> list[Tensor]:
    """Of these samples for each parameter, (s, *shape); gradients: of each output leaf (m, …), None if it has none."""
    module, owned = call.layer.module, call.layer.parameters
    batched = [
        isinstance(leaf, Tensor) and axis is not None
        for leaf, axis in zip(call.given, axes.inputs, strict=True)
    ]
    # In front, and copied: the module may write into them, as it may into shared ones (cloned inside).
    samples = [
        leaf.movedim(axis, 0)[which].clone()
        for leaf, axis, each in zip(call.given, axes.inputs, batched, strict=True)
        if each and axis is not None
    ]
    present = [gradient[which] for gradient in gradients if gradient is not None]
    parameters = {each.local: widened(each.parameter).detach() for each in owned}

    def of_one(own: list[Tensor], wanted: list[Tensor]) -> list[Tensor]:
        given = iter(own)
        leaves = [
            _as_batch_of_one(next(given), axis, rows)
            if each and axis is not None
            else leaf.clone()
            if isinstance(leaf, Tensor)
            else leaf
            for leaf, each, axis, rows in zip(call.given, batched, axes.inputs, axes.input_rows, strict=True)
        ]
        args, kwargs = pytree.tree_unflatten(
            [widened(leaf) for leaf in leaves] if state else leaves, call.input_structure
        )

        def outputs(inside: dict[str, Tensor]) -> list[Tensor]:
            found = torch.func.functional_call(module, state | inside, args, kwargs, tie_weights=False)
            return [
                leaf
                for leaf, gradient in zip(pytree.tree_leaves(found), gradients, strict=True)
                if gradient is not None
            ]

        found, backward, *_ = torch.func.vjp(outputs, parameters)
        directions = [
            gradient.reshape(leaf.shape).to(leaf.dtype) for leaf, gradient in zip(found, wanted, strict=True)
        ]
        (by_name,) = backward(directions)
        return [as_real(by_name[each.local], each) for each in owned]

    with torch.enable_grad(), without_hooks_on_outputs(module), attributes_kept(module):
        stacks: list[Tensor] = vectorised(of_one, samples, present)
    return stacks


def _as_batch_of_one(own: Tensor, axis: int, rows: int) -> Tensor:
    """A sample's part of an input where the module expects its axis; rows of a sample lie on it already."""
    return own.unsqueeze(0).movedim(0, axis) if rows == 1 else own.movedim(0, axis)
