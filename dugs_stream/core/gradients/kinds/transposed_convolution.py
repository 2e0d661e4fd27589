"""Fast path of transposed convolutions: a convolution's gradient with input and output gradient in each other's place.

Each input number is multiplied by the weight and added to a patch of the output, so the weight's gradient is
Σ over positions of input ⊗ patch of the output gradient. Cost: see `core.gradients.kinds.windows`.
"""

from typing import Any

import torch
from torch import Tensor, nn

from dugs_stream.core.gradients.capture import CallAxes, LayerCall
from dugs_stream.core.gradients.kinds.convolution import (
    channel_sums,
    channels_second,
    is_of_class,
    output_gradient,
    require_claim,
    window_of,
)
from dugs_stream.core.gradients.kinds.windows import Window, add_sliding, sliding_product
from dugs_stream.core.gradients.layers import Layer
from dugs_stream.core.sketch.count_sketch import Sketch
from dugs_stream.core.sketch.scaling import ScaledSum

_CLASSES = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def takes(layer: Layer) -> bool:
    """Whether the layer looks like a transposed convolution of its own weight and bias: the probe must confirm it."""
    return is_of_class(layer, _CLASSES)


def needs_trial(layer: Layer) -> bool:
    """Whether a subclass may compute something else of the weight."""
    return type(layer.module) not in _CLASSES or "forward" in vars(layer.module)


def add_terms(total: ScaledSum, call: LayerCall, axes: CallAxes, sketch: Sketch) -> None:
    """Add the sketched gradients (m, k) of weight and bias from one call of the layer to `total`."""
    gradient = output_gradient(call, axes)
    if gradient is None:
        return
    module: Any = call.layer.module
    g, g_exponents = total.normalised(channels_second(module, gradient.to(total.dtype)))
    for owned in call.layer.parameters:
        parameter = sketch.parameter(owned.name, owned.shape)
        if owned.local == "bias":
            parameter.add_vector(total, channel_sums(g), g_exponents)
            continue
        x, x_exponents = total.normalised(channels_second(module, call.inputs[0].to(total.dtype)))
        window = window_of(module, x)
        image = _cut(module, g, window)
        add_sliding(total, parameter, x, image, window, module.groups, g_exponents + x_exponents)


def formed(call: LayerCall, axes: CallAxes, sample: int) -> list[Tensor]:
    """The gradient of one sample for each of the layer's own parameters, in their order and shapes.

    Raises ValueError for a subclass that computes something else of the weight, if only for some samples.
    """
    if needs_trial(call.layer):
        require_claim(call)
    gradient = output_gradient(call, axes)
    if gradient is None:
        return [torch.zeros_like(owned.parameter) for owned in call.layer.parameters]
    module: Any = call.layer.module
    dtype = torch.promote_types(gradient.dtype, torch.float32)
    g, x = (
        channels_second(module, each[sample : sample + 1].to(dtype)) for each in (gradient, call.inputs[0])
    )
    window = window_of(module, x)
    return [
        channel_sums(g)[0]
        if owned.local == "bias"
        else sliding_product(x, _cut(module, g, window), window, module.groups).view(owned.shape)
        for owned in call.layer.parameters
    ]


def _cut(module: Any, g: Tensor, window: Window) -> Tensor:
    """The output gradient (m, c, *size) over all that the inputs were added to, also what the layer's padding cut off."""
    margins: list[int] = []
    for axis in range(-1, -1 - len(module.padding), -1):  # torch wants the last axis first
        before = module.padding[axis]
        margins += [before, window.extent[axis] - before - g.shape[axis]]
    return torch.nn.functional.pad(g, margins)
