"""Fast path of convolutions: the sketch of Σ over positions of output gradient ⊗ patch, for any number of axes.

Cost: see `core.gradients.kinds.windows`. Padding of every mode, stride, dilation and groups.
"""

from typing import Any

import torch
from torch import Tensor, nn

from dugs_stream.core.gradients.capture import CallAxes, LayerCall
from dugs_stream.core.gradients.kinds.windows import Window, add_sliding, sliding_product
from dugs_stream.core.gradients.layers import Layer
from dugs_stream.core.sketch.count_sketch import Sketch
from dugs_stream.core.sketch.scaling import ScaledSum, normalised

_CLASSES = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def takes(layer: Layer) -> bool:
    """Whether the layer is a convolution of a weight and a bias of its own."""
    module = layer.module
    return (
        isinstance(module, _CLASSES)
        and any(
            type(module).forward is each.forward and type(module)._conv_forward is each._conv_forward  # noqa: SLF001
            for each in _CLASSES
        )
        and not {"forward", "_conv_forward"} & vars(module).keys()  # replaced on this one object
        and {owned.local for owned in layer.parameters} | {"bias"} == {"weight", "bias"}
        and not module.weight.is_complex()
    )


def add_terms(total: ScaledSum, call: LayerCall, axes: CallAxes, sketch: Sketch) -> None:
    """Add the sketched gradients (m, k) of weight and bias from one call of the layer to `total`."""
    gradient = output_gradient(call, axes)
    if gradient is None:
        return
    g, g_exponents = normalised(gradient.to(total.dtype))  # (m, r, *positions)
    for owned in call.layer.parameters:
        parameter = sketch.parameter(owned.name, owned.shape)
        if owned.local == "bias":
            total.add(parameter.vector(channel_sums(g)), g_exponents)
            continue
        x, x_exponents = normalised(call.inputs[0].to(total.dtype))
        module: Any = call.layer.module
        image, window = _padded(module, x), _window(module, g)
        add_sliding(total, parameter, g, image, window, module.groups, g_exponents + x_exponents)


def formed(call: LayerCall, axes: CallAxes, sample: int) -> list[Tensor]:
    """The gradient of one sample for each of the layer's own parameters, in their order and shapes."""
    gradient = output_gradient(call, axes)
    if gradient is None:
        return [torch.zeros_like(owned.parameter) for owned in call.layer.parameters]
    module: Any = call.layer.module
    dtype = torch.promote_types(gradient.dtype, torch.float32)
    g, x = (each[sample : sample + 1].to(dtype) for each in (gradient, call.inputs[0]))
    return [
        channel_sums(g)[0]
        if owned.local == "bias"
        else sliding_product(g, _padded(module, x), _window(module, g), module.groups)[0]
        for owned in call.layer.parameters
    ]


def output_gradient(call: LayerCall, axes: CallAxes) -> Tensor | None:
    """The gradient (m, channels, …) of what the layer returned; None if it has none."""
    gradient, axis = call.gradients[0], axes.outputs[0]
    if gradient is None or axis is None:
        return None
    if axis:
        raise ValueError(
            f"the samples of {call.layer.title} lie along axis {axis} of its output, not the first"
        )
    return gradient


def channel_sums(values: Tensor) -> Tensor:
    """(m, channels, …) → (m, channels)."""
    # PyTorch adds up each row of contiguous numbers by itself, in an order that depends on its length alone.
    return values.flatten(2).contiguous().sum(dim=2)


def _window(module: Any, g: Tensor) -> Window:
    return Window(module.kernel_size, module.stride, module.dilation, tuple(g.shape[2:]))


def _padded(module: Any, x: Tensor) -> Tensor:
    """The input (m, c, *size) with the padding that the layer gives it."""
    reversed_twice = module._reversed_padding_repeated_twice  # noqa: SLF001 -- as the layer itself reads it
    if module.padding_mode != "zeros":
        return torch.nn.functional.pad(x, reversed_twice, mode=module.padding_mode)
    if isinstance(module.padding, tuple):
        reversed_twice = [each for each in reversed(module.padding) for _ in range(2)]
    return torch.nn.functional.pad(x, reversed_twice)
