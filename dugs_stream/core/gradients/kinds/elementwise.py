"""Fast path of layers whose parameters act element by element: scales, shifts and what a module computes of them.

Each number of the output depends on one number of a parameter at most, as in RMSNorm, LayerScale, PReLU or a
normalisation with an activation behind. The derivative of every output by its own number then costs, for a parameter, one
pass forward, one back and one back through that, over the whole tile.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from dugs_stream.core.gradients.capture import CallAxes, LayerCall
from dugs_stream.core.gradients.kinds.dependence import require_elementwise
from dugs_stream.core.gradients.layers import Layer, OwnedParameter
from dugs_stream.core.sketch.axis import position_sum
from dugs_stream.core.sketch.count_sketch import Sketch
from dugs_stream.core.sketch.scaling import ScaledSum, normalised


def takes(layer: Layer) -> bool:
    """Whether the layer has vectors of its own and no other parameters: a claim that `formed` proves or refuses."""
    own = {owned.local for owned in layer.parameters}
    return (
        {name for name, _ in layer.module.named_parameters()} == own
        and all(sum(size > 1 for size in owned.parameter.shape) <= 1 for owned in layer.parameters)
        and not any(
            owned.parameter.is_complex() or owned.parameter.numel() == 0 for owned in layer.parameters
        )
    )


def needs_trial(_layer: Layer) -> bool:
    """Whether only calls that gave the output a gradient were followed: they were."""
    return True


def add_terms(total: ScaledSum, call: LayerCall, axes: CallAxes, sketch: Sketch) -> None:
    """Add the sketched gradients (m, k) of the layer's parameters from one call of it to `total`."""
    for owned in call.layer.parameters:
        found = _gradient(call, axes, owned, total.dtype)
        if found is not None:
            values, exponents = found
            total.add(sketch.parameter(owned.name, owned.shape).dense(values), exponents)


def formed(call: LayerCall, axes: CallAxes, sample: int) -> list[Tensor]:
    """The gradient of one sample for each of the layer's own parameters, in their order and shapes.

    Raises OtherDependenceError for a layer that may compute one number of its output from several of a parameter.
    """
    gradients = []
    for owned in call.layer.parameters:
        _require_claim(call, owned)
        found = _gradient(call, axes, owned, torch.promote_types(owned.parameter.dtype, torch.float32))
        if found is None:
            gradients.append(torch.zeros_like(owned.parameter))
            continue
        values, exponents = (each[sample] for each in found)
        gradients.append(torch.ldexp(values, exponents))
    return gradients


class _Bare(nn.Module):
    """A module without the hooks of its owner, which had their say when it was captured."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module.forward(*args, **kwargs)


def _gradient(
    call: LayerCall, axes: CallAxes, owned: OwnedParameter, dtype: torch.dtype
) -> tuple[Tensor, Tensor] | None:
    """The parameter's gradient (m, *shape) × 2^exponents (m,); None if the output has none."""
    gradient, axis = call.gradients[0], axes.outputs[0]
    if gradient is None or axis is None:
        return None
    g, exponents = normalised(gradient.movedim(axis, 0).to(dtype))
    slopes, along = _slopes(call, owned, axis, dtype)
    slopes, own = normalised(slopes)
    values = (g * slopes).movedim(along, -1)  # (m, …, numbers of the parameter)
    length = owned.parameter.numel()
    sums = position_sum(values.reshape(len(values), -1, values.shape[-1] if length > 1 else 1))
    return sums.view(-1, *owned.parameter.shape), exponents + own


def _slopes(call: LayerCall, owned: OwnedParameter, axis: int, dtype: torch.dtype) -> tuple[Tensor, int]:
    """The derivative (m, …) of each number of the output by the number of the parameter that it depends on.

    And the axis along which these numbers lie.
    """
    state, args, kwargs = _in_precision(call, owned, dtype)
    values = state[_named(owned)]
    with torch.enable_grad():
        output: Tensor = torch.func.functional_call(_Bare(call.layer.module), state, args, kwargs)
        # The way back is linear in what it starts from, so its own derivative is that of the way forward.
        start = torch.zeros_like(output, requires_grad=True)
        (back,) = torch.autograd.grad(output, values, start, create_graph=True)

        def derivative(direction: Tensor) -> Tensor:
            (found,) = torch.autograd.grad(back, start, direction, retain_graph=True)
            return found.movedim(axis, 0)

        slopes = derivative(torch.ones_like(back))
        return slopes, _axis_of_numbers(slopes, owned.parameter.shape, derivative)


def _require_claim(call: LayerCall, owned: OwnedParameter) -> None:
    """Raise OtherDependenceError unless the module is proven to act element by element."""
    dtype = torch.promote_types(owned.parameter.dtype, torch.float32)
    state, args, kwargs = _in_precision(call, owned, dtype)
    require_elementwise(_Bare(call.layer.module), state, _named(owned), args, kwargs)


def _in_precision(
    call: LayerCall, owned: OwnedParameter, dtype: torch.dtype
) -> tuple[dict[str, Tensor], Any, Any]:
    """State of the bare module in which the parameter requires a gradient, and arguments of the call."""
    module = call.layer.module
    state = {
        f"module.{name}": _as(dtype, values.detach())
        for name, values in (*module.named_parameters(), *module.named_buffers())
    }
    state[_named(owned)] = state[_named(owned)].clone().requires_grad_()
    # Copied, since the module may write into them.
    inputs = [_as(dtype, leaf.clone()) if isinstance(leaf, Tensor) else leaf for leaf in call.inputs]
    args, kwargs = pytree.tree_unflatten(inputs, call.input_structure)
    return state, args, kwargs


def _named(owned: OwnedParameter) -> str:
    return f"module.{owned.local}"


def _axis_of_numbers(slopes: Tensor, shape: torch.Size, derivative: Callable[[Tensor], Tensor]) -> int:
    """Along which axis of the output the numbers of a parameter lie."""
    length = max(shape, default=1)
    if length == 1:
        return -1
    if len(shape) > 1:
        return shape.index(length) - len(shape)  # as tensors are broadcast
    found = [each for each in range(1, slopes.dim()) if slopes.shape[each] == length]
    if (
        len(found) > 1
    ):  # as many channels as positions: a step that is another one for each number tells them apart
        ramp = torch.linspace(1, 2, length, dtype=slopes.dtype, device=slopes.device)
        weighted = derivative(ramp)
        for each in found:
            expected = slopes * ramp.view(-1, *(1,) * (slopes.dim() - each - 1))
            is_near = (weighted - expected).abs() <= 0.25 / length * slopes.abs()
            if bool((is_near | ~slopes.isfinite()).all()):
                return each
        found = []
    if not found:
        raise ValueError(f"the {length} numbers lie along no axis of the output {tuple(slopes.shape)}")
    return found[0]


def _as(dtype: torch.dtype, values: Tensor) -> Tensor:
    return values.to(dtype) if values.is_floating_point() else values
