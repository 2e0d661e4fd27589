"""Local vector-Jacobian product: the gradient of any layer without a fast path, one sample at a time.

The layer alone runs again from its captured inputs, and back from its output gradients: right for every module that
treats samples apart, slow, and bounded in memory by a few formed gradients.
"""

import contextlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from dugs_stream.core.gradients.capture import CallAxes, LayerCall
from dugs_stream.core.gradients.derivatives import NoHooksOnGradients, has_own_derivative
from dugs_stream.core.gradients.layers import OwnedParameter
from dugs_stream.core.sketch.axis import pairwise_sum
from dugs_stream.core.sketch.count_sketch import Sketch
from dugs_stream.core.sketch.scaling import (
    ScaledSum,
    magnitude_exponents,
    normalised_together,
    times_power_of_two,
)

_FORMED_NUMBERS = 1 << 22
"""Numbers of formed gradients held at once, 16 MiB in float32; at least those of one sample."""


def add_terms(total: ScaledSum, call: LayerCall, axes: CallAxes, sketch: Sketch) -> None:
    """Add the sketched gradients (m, k) of the layer's parameters from one call of it to `total`."""
    gradients, scale = scaled_gradients(call, axes)
    if scale is not None:
        add_sketched(total, call, axes, sketch, gradients, scale)


def add_sketched(
    total: ScaledSum,
    call: LayerCall,
    axes: CallAxes,
    sketch: Sketch,
    gradients: Sequence[Tensor | None],
    scale: Tensor,
) -> None:
    """The same from gradients (m, …) of the output leaves × 2^scale, (m,), None for a leaf without one."""
    m, step = len(scale), formed_at_once(call.layer.size)
    vectors, exponents = [], []
    state = widened_state(call.layer.module)
    for start in range(0, m, step):
        samples = range(start, min(start + step, m))
        formed = [_sample_gradients(call, axes, gradients, sample, state) for sample in samples]
        stacks = stacked(formed)
        sketched, own = sketch_formed(stacks, call.layer.parameters, sketch, total.dtype)
        vectors.append(sketched)
        exponents.append(own)
    total.add(torch.cat(vectors), scale + torch.cat(exponents))


def output_gradients(call: LayerCall, axes: CallAxes) -> list[Tensor | None]:
    """The gradients (m, …) of the output leaves; None for a leaf without one."""
    # In a dtype whose exponents we can write: half precision is widened, which loses nothing.
    return [
        gradient.movedim(axis, 0).to(torch.promote_types(gradient.dtype, torch.float32))
        if gradient is not None and axis is not None
        else None
        for gradient, axis in zip(call.gradients, axes.outputs, strict=True)
    ]


def scaled_gradients(call: LayerCall, axes: CallAxes) -> tuple[list[Tensor | None], Tensor | None]:
    """The gradients (m, …) of the output leaves, each sample divided by 2^exponent, and the exponents (m,); None: no gradient.

    What comes out of a backward pass of them is multiplied by 2^exponent again, so that small ones do not underflow: right
    where `require_linear_backward` finds nothing.
    """
    moved = output_gradients(call, axes)
    present = [leaf for leaf in moved if leaf is not None]
    if not present:
        return moved, None
    scale = torch.stack([magnitude_exponents(leaf) for leaf in present]).amax(dim=0)  # (m,)
    return [None if leaf is None else times_power_of_two(leaf, -scale) for leaf in moved], scale


def formed_at_once(size: int) -> int:
    """Of how many samples formed gradients of so many numbers are held at once."""
    return max(1, _FORMED_NUMBERS // max(size, 1))


def equal_parts(m: int, most: int) -> int:
    """The largest size of equal parts of m samples that is at most `most`: a kernel's bits may follow the size."""
    return next(size for size in range(min(m, most), 0, -1) if m % size == 0)


def stacked(formed: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Gradients by sample and parameter → for each parameter (s, *shape)."""
    if len(formed) == 1:
        return [each[None] for each in formed[0]]  # without a copy
    return [torch.stack(parts) for parts in zip(*formed, strict=True)]


def formed(call: LayerCall, axes: CallAxes, sample: int) -> list[Tensor]:
    """The gradient of one sample for each of the layer's own parameters, in their order and shapes."""
    require_linear_backward(call)
    return formed_as_written(call, axes, sample)


def formed_as_written(call: LayerCall, axes: CallAxes, sample: int) -> list[Tensor]:
    """The same of any backward pass."""
    gradients = [
        None if gradient is None or axis is None else gradient.movedim(axis, 0)
        for gradient, axis in zip(call.gradients, axes.outputs, strict=True)
    ]
    return _sample_gradients(call, axes, gradients, sample, widened_state(call.layer.module))


def require_linear_backward(call: LayerCall) -> None:
    """Raise ValueError if the layer holds a derivative of its own or a hook on a gradient.

    They may do what they like with a gradient, clip it say, so that twice of it may not give twice as much.
    """
    module = call.layer.module
    leaves = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in call.given]
    args, kwargs = pytree.tree_unflatten(leaves, call.input_structure)
    parameters = {
        owned.local: owned.parameter.detach().clone().requires_grad_() for owned in call.layer.parameters
    }
    with torch.enable_grad(), without_hooks_on_outputs(module), NoHooksOnGradients():
        outputs = torch.func.functional_call(module, parameters, args, kwargs, tie_weights=False)
    if has_own_derivative(outputs):
        raise ValueError(f"{call.layer.title} has a derivative of its own")


def sketch_formed(
    stacks: Sequence[Tensor], parameters: Sequence[OwnedParameter], sketch: Sketch, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Formed gradients (s, *shape) of each parameter → vectors (s, k) × 2^exponents (s,)."""
    stacks, exponents = normalised_together([stack.to(dtype) for stack in stacks])
    sketched = [
        sketch.parameter(owned.name, owned.shape).dense(stack)
        for owned, stack in zip(parameters, stacks, strict=True)
    ]
    return pairwise_sum(torch.stack(sketched), axis=0), exponents


def as_real(gradient: Tensor | None, owned: OwnedParameter) -> Tensor:
    """A parameter's gradient as dense real numbers in `owned.shape`; zeros if it has none."""
    if gradient is None:
        gradient = torch.zeros_like(owned.parameter)
    gradient = gradient.to_dense() if gradient.layout != torch.strided else gradient
    return torch.view_as_real(gradient.resolve_conj()) if gradient.is_complex() else gradient


def _sample_gradients(
    call: LayerCall,
    axes: CallAxes,
    gradients: Sequence[Tensor | None],
    sample: int,
    state: dict[str, Tensor],
) -> list[Tensor]:
    """gradients: of each output leaf (m, …), None if it has none; state: of the module, where not as it stands."""
    layer = call.layer
    inputs = [
        _sample_of(leaf, axis, rows, sample)
        for leaf, axis, rows in zip(call.given, axes.inputs, axes.input_rows, strict=True)
    ]
    if state:
        inputs = [widened(leaf) for leaf in inputs]
    args, kwargs = pytree.tree_unflatten(inputs, call.input_structure)
    parameters = {
        owned.local: widened(owned.parameter).detach().clone().requires_grad_() for owned in layer.parameters
    }
    with torch.enable_grad(), without_hooks_on_outputs(layer.module):
        # Untied: a parameter under two names of its own is used twice, and the caller's map adds both up.
        outputs = torch.func.functional_call(
            layer.module, state | parameters, args, kwargs, tie_weights=False
        )
        leaves, _ = pytree.tree_flatten(outputs)
        pairs = [
            (leaf, gradient[sample].reshape(leaf.shape).to(leaf.dtype))
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
    return [as_real(gradient, owned) for owned, gradient in zip(layer.parameters, found, strict=True)]


def widened_state(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers of a module in float16 as float32, whose range its products do not leave; else nothing."""
    state = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    return {name: values.detach().float() for name, values in state if values.dtype == torch.float16}


def widened(leaf: Any) -> Any:
    return leaf.float() if isinstance(leaf, Tensor) and leaf.dtype == torch.float16 else leaf


@contextlib.contextmanager
def without_hooks_on_outputs(module: nn.Module) -> Iterator[None]:
    """The owner's hooks on outputs had their say in the pass: output and gradient are those of the bare layer.

    Hooks on inputs run again, on what the caller gave: some of them make the weights (weight and spectral norm).
    """
    names = ("_forward_hooks", "_backward_hooks", "_backward_pre_hooks")
    kept = {name: getattr(module, name) for name in names}
    try:
        for name in names:
            setattr(module, name, OrderedDict())
        yield
    finally:
        for name, hooks in kept.items():
            setattr(module, name, hooks)


def _sample_of(leaf: Any, axis: int | None, rows: int, sample: int) -> Any:
    """The sample's own part of an input, copied, since the module may write into it."""
    if not isinstance(leaf, Tensor):
        return leaf
    if axis is None:
        return leaf.clone()
    own = leaf.narrow(axis, sample, 1)
    return (own if rows == 1 else own.squeeze(axis)).clone()  # its rows lie on an axis of their own
