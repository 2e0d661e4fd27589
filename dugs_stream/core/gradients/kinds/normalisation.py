"""Fast path of normalisation layers: the gradient of the scale is Σ over positions of output gradient · normalised input.

Cost of a sample: one more forward pass of the layer and O(numbers of its output).
"""

from typing import Any

import torch
from torch import Tensor, nn

from dugs_stream.core.gradients.capture import CallAxes, LayerCall
from dugs_stream.core.gradients.layers import Layer
from dugs_stream.core.sketch.count_sketch import Sketch, pairwise_sum
from dugs_stream.core.sketch.scaling import ScaledSum, normalised

_ON_LAST_AXES = (nn.LayerNorm, nn.RMSNorm)
_PER_SAMPLE = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
_ON_CHANNELS = (nn.GroupNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, *_PER_SAMPLE)


def takes(layer: Layer) -> bool:
    """Whether the layer is a normalisation with a scale and a shift of its own, either of which may be missing."""
    module = layer.module
    return (
        isinstance(module, _ON_LAST_AXES + _ON_CHANNELS)
        and any(type(module).forward is each.forward for each in _ON_LAST_AXES + _ON_CHANNELS)
        and "forward" not in vars(module)  # replaced on this one object
        and {owned.local for owned in layer.parameters} <= {"weight", "bias"}
    )


def add_terms(total: ScaledSum, call: LayerCall, axes: CallAxes, sketch: Sketch) -> None:
    """Add the sketched gradients (m, k) of scale and shift from one call of the layer to `total`."""
    gradient, axis = call.gradients[0], axes.outputs[0]
    if gradient is None or axis is None:
        return
    g, exponents = normalised(gradient.movedim(axis, 0).to(total.dtype))
    unit = _unit(call.layer.module, call.inputs[0].to(total.dtype)).movedim(axis, 0)
    for owned in call.layer.parameters:
        sums = _sums(call.layer.module, g * unit if owned.local == "weight" else g)
        total.add(sketch.parameter(owned.name, owned.shape).dense(sums), exponents)


def formed(call: LayerCall, axes: CallAxes, sample: int) -> list[Tensor]:
    """The gradient of one sample for each of the layer's own parameters, in their order and shapes."""
    gradient, axis = call.gradients[0], axes.outputs[0]
    if gradient is None or axis is None:
        return [torch.zeros_like(owned.parameter) for owned in call.layer.parameters]
    dtype = torch.promote_types(gradient.dtype, torch.float32)
    g = gradient.movedim(axis, 0)[sample : sample + 1].to(dtype)
    unit = _unit(call.layer.module, call.inputs[0].to(dtype)).movedim(axis, 0)[sample : sample + 1]
    return [
        _sums(call.layer.module, g * unit if owned.local == "weight" else g)[0]
        for owned in call.layer.parameters
    ]


def _unit(module: Any, x: Tensor) -> Tensor:
    """The input (m, …) normalised as the layer does it, without scale and shift."""
    functional = torch.nn.functional
    match module:
        case nn.LayerNorm():
            return functional.layer_norm(x, module.normalized_shape, eps=module.eps)
        case nn.RMSNorm():
            return functional.rms_norm(x, module.normalized_shape, eps=module.eps)
        case nn.GroupNorm():
            return functional.group_norm(x, module.num_groups, eps=module.eps)
    mean, variance = (
        None if each is None else each.to(x.dtype) for each in (module.running_mean, module.running_var)
    )
    if isinstance(module, _PER_SAMPLE):
        return functional.instance_norm(
            x, mean, variance, use_input_stats=not module.track_running_stats, eps=module.eps
        )
    return functional.batch_norm(x, mean, variance, training=mean is None, eps=module.eps)


def _sums(module: Any, values: Tensor) -> Tensor:
    """Values (m, …) summed over all axes but those of the layer's scale, (m, *shape)."""
    if isinstance(module, _ON_LAST_AXES):
        return pairwise_sum(values.reshape(len(values), -1, *module.normalized_shape), axis=1)
    return pairwise_sum(values.reshape(*values.shape[:2], -1), axis=2)
