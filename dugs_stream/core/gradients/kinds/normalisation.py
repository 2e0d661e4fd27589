"""Fast path of normalisation layers: the gradient of the scale is Σ over positions of output gradient · normalised input.

Cost of a sample: one more forward pass of the layer and O(numbers of its output); none for BatchNorm in eval mode.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from dugs_stream.core.gradients.capture import CallAxes, LayerCall
from dugs_stream.core.gradients.layers import Layer
from dugs_stream.core.gradients.memory import is_out_of_memory
from dugs_stream.core.sketch.axis import pairwise_sum, position_sum
from dugs_stream.core.sketch.count_sketch import Sketch
from dugs_stream.core.sketch.scaling import ScaledSum, normalised

_ON_LAST_AXES = (nn.LayerNorm, nn.RMSNorm)
_BY_STATISTICS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_PER_SAMPLE = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
_CLASSES = (*_ON_LAST_AXES, nn.GroupNorm, *_BY_STATISTICS, *_PER_SAMPLE)


def takes(layer: Layer) -> bool:
    """Whether the layer is a normalisation with a scale and a shift of its own, either of which may be missing."""
    module: Any = layer.module
    return (
        isinstance(module, _CLASSES)
        and not (isinstance(module, _BY_STATISTICS) and module.running_mean is None)  # the batch's own
        and {owned.local for owned in layer.parameters} <= {"weight", "bias"}
        and (
            not needs_trial(layer)
            or (isinstance(module, nn.LayerNorm) and _is_layer_norm(module, _example(module)))
        )
    )


def needs_trial(layer: Layer) -> bool:
    """Whether the forward is one of its own, which for another sample may compute something else."""
    module = layer.module
    is_known = any(type(module).forward is each.forward for each in _CLASSES)
    return not is_known or "forward" in vars(module)  # replaced on this one object


def add_terms(total: ScaledSum, call: LayerCall, axes: CallAxes, sketch: Sketch) -> None:
    """Add the sketched gradients (m, k) of scale and shift from one call of the layer to `total`."""
    gradient, axis = call.gradients[0], axes.outputs[0]
    if gradient is None or axis is None:
        return
    g, x = (each.movedim(axis, 0).to(total.dtype) for each in (gradient, call.inputs[0]))
    for owned, sums in zip(call.layer.parameters, _gradients(call.layer, axes, g, x), strict=True):
        # Scaled after they are summed: the normalised input is of order one, so nothing leaves the range of float32.
        values, exponents = normalised(sums)
        total.add(sketch.parameter(owned.name, owned.shape).dense(values), exponents)


def formed(call: LayerCall, axes: CallAxes, sample: int) -> list[Tensor]:
    """The gradient of one sample for each of the layer's own parameters, in their order and shapes.

    Raises ValueError for a subclass of LayerNorm that computes something else, if only for some samples.
    """
    if needs_trial(call.layer) and not _is_layer_norm(call.layer.module, call.inputs[0]):
        raise ValueError(f"{type(call.layer.module).__name__} is not a layer normalisation alone")
    gradient, axis = call.gradients[0], axes.outputs[0]
    if gradient is None or axis is None:
        return [torch.zeros_like(owned.parameter) for owned in call.layer.parameters]
    dtype = torch.promote_types(gradient.dtype, torch.float32)
    g, x = (each.movedim(axis, 0)[sample : sample + 1].to(dtype) for each in (gradient, call.inputs[0]))
    return [sums[0] for sums in _gradients(call.layer, axes, g, x)]


def _example(module: Any) -> Tensor:
    """Two rows of other numbers, so that a forward with another small constant shows."""
    size = (2, *module.normalized_shape)
    scale: Tensor = module.weight if module.weight is not None else module.bias
    return torch.linspace(-1, 1, math.prod(size), dtype=scale.dtype, device=scale.device).view(size) / 100


def _is_layer_norm(module: Any, inputs: Tensor) -> bool:
    """Whether the forward of these inputs is torch's layer normalisation of them and nothing else (timm's subclass).

    Its way back is one step, from these inputs and the module's own parameters, and each number is that of the function
    with the module's own settings.
    """
    given = inputs.detach().clone().requires_grad_()
    try:
        with torch.enable_grad():
            found = module.forward(given)
        expected = torch.nn.functional.layer_norm(
            inputs, module.normalized_shape, module.weight, module.bias, module.eps
        )
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return False  # it takes other inputs
    step: Any = found.grad_fn if isinstance(found, Tensor) else None
    return (
        step is not None
        and step.name() == "NativeLayerNormBackward0"
        and step._saved_input is given  # noqa: SLF001 -- torch's own names for what a step back needs
        and step._saved_weight is module.weight  # noqa: SLF001
        and step._saved_bias is module.bias  # noqa: SLF001
        and torch.equal(found, expected)
    )


def _gradients(layer: Layer, axes: CallAxes, g: Tensor, x: Tensor) -> list[Tensor]:
    """Output gradients and inputs (m, …) → the gradient (m, *shape) of each of the layer's parameters."""
    module: Any = layer.module
    if isinstance(module, _ON_LAST_AXES):
        shape = module.normalized_shape
        found = {"weight": _positions_summed(_normalised_input(module, x).mul_(g), shape)}
        if any(owned.local == "bias" for owned in layer.parameters):
            found["bias"] = _positions_summed(g, shape)
    elif len(axes.output_rows) == 1 and axes.output_rows[0] > 1:  # several images, or windows, a sample
        parts = _channel_gradients(module, g.flatten(0, 1), x.flatten(0, 1))
        found = {name: pairwise_sum(sums.view(*g.shape[:2], -1), axis=1) for name, sums in parts.items()}
    else:
        found = _channel_gradients(module, g, x)
    return [found[owned.local] for owned in layer.parameters]


def _positions_summed(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(m, …, *shape) → (m, *shape)."""
    return position_sum(values.reshape(len(values), -1, math.prod(shape))).view(-1, *shape)


def _channel_gradients(module: Any, g: Tensor, x: Tensor) -> dict[str, Tensor]:
    """The gradients (m, c) of scale and shift of a layer that has one of each for a channel: g, x (m, c, …)."""
    m, c = g.shape[:2]
    mean, variance, eps = x.new_zeros(c), x.new_ones(c), 0.0
    if isinstance(module, _BY_STATISTICS):
        statistics: Any = module
        mean, variance, eps = (
            statistics.running_mean.to(x.dtype),
            statistics.running_var.to(x.dtype),
            statistics.eps,
        )
    else:
        x = _normalised_input(module, x)
    # The backward pass of BatchNorm with each sample's channels as channels of their own: Σ (x − mean)·g and Σ g in one
    # pass over memory, each channel by itself.
    _, scale, shift = torch.ops.aten.native_batch_norm_backward(
        g.reshape(1, m * c, -1),
        x.reshape(1, m * c, -1),
        x.new_ones(m * c),
        mean.repeat(m),
        variance.repeat(m),
        None,
        None,
        False,
        eps,
        [False, True, True],
    )
    return {"weight": scale.view(m, c), "bias": shift.view(m, c)}


def _normalised_input(module: Any, x: Tensor) -> Tensor:
    """The input (m, …) normalised as the layer does it, without scale and shift."""
    functional: Any = torch.nn.functional
    found: Tensor
    if isinstance(module, nn.LayerNorm):
        found = functional.layer_norm(x, module.normalized_shape, eps=module.eps)
    elif isinstance(module, nn.RMSNorm):
        found = functional.rms_norm(x, module.normalized_shape, eps=module.eps)
    elif isinstance(module, nn.GroupNorm):
        found = functional.group_norm(x, module.num_groups, eps=module.eps)
    else:
        mean, variance = (
            None if each is None else each.to(x.dtype) for each in (module.running_mean, module.running_var)
        )
        by_sample = not module.track_running_stats
        found = functional.instance_norm(x, mean, variance, use_input_stats=by_sample, eps=module.eps)
    return found
