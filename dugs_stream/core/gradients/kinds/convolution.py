"""Fast path of convolutions: the sketch of Σ over positions of output gradient ⊗ patch, for any number of axes.

Cost: see `core.gradients.kinds.windows`. Padding of every mode, stride, dilation and groups.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from dugs_stream.core.gradients.capture import CallAxes, LayerCall
from dugs_stream.core.gradients.kinds.recognition import require_convolution
from dugs_stream.core.gradients.kinds.windows import Window, add_sliding, sliding_product
from dugs_stream.core.gradients.layers import Layer
from dugs_stream.core.sketch.count_sketch import Sketch
from dugs_stream.core.sketch.scaling import ScaledSum

_CLASSES = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def takes(layer: Layer) -> bool:
    """Whether the layer looks like a convolution of a weight and a bias of its own: a claim that the probe must confirm."""
    return is_of_class(layer, _CLASSES)


def is_of_class(layer: Layer, classes: tuple[type[nn.Module], ...]) -> bool:
    """Whether the layer is of one of the classes or a subclass, with no parameters but its weight and bias."""
    module: Any = layer.module
    return (
        isinstance(module, classes)
        and {owned.local for owned in layer.parameters} <= {"weight", "bias"}
        and not any(owned.parameter.is_complex() for owned in layer.parameters)
    )


def needs_trial(layer: Layer) -> bool:
    """Whether a subclass may compute something else of the weight, such as a standardised one."""
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
        x, x_exponents = total.normalised(call.inputs[0].to(total.dtype))
        image, window = _padded(module, x, g), window_of(module, g)
        add_sliding(total, parameter, g, image, window, module.groups, g_exponents + x_exponents)


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
    g, x = (each[sample : sample + 1].to(dtype) for each in (gradient, call.inputs[0]))
    g = channels_second(module, g)
    return [
        channel_sums(g)[0]
        if owned.local == "bias"
        else sliding_product(g, _padded(module, x, g), window_of(module, g), module.groups).view(owned.shape)
        for owned in call.layer.parameters
    ]


def require_claim(call: LayerCall) -> None:
    """Raise ValueError unless the module's forward is a convolution alone, of images as it is given them."""
    module: Any = call.layer.module
    leaves = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in call.inputs]
    leaves[0] = leaves[0].flatten(0, -len(module.kernel_size) - 2)
    args, kwargs = pytree.tree_unflatten(leaves, call.input_structure)
    require_convolution(module, args, kwargs)


def output_gradient(call: LayerCall, axes: CallAxes) -> Tensor | None:
    """The gradient (m, …, channels, *size) of what the layer returned; None if it has none."""
    gradient, axis = call.gradients[0], axes.outputs[0]
    if gradient is None or axis is None:
        return None
    if axis:
        raise ValueError(
            f"the samples of {call.layer.title} lie along axis {axis} of its output, not the first"
        )
    return gradient


def channels_second(module: Any, values: Tensor) -> Tensor:
    """(m, channels, *size), or (m, images, channels, *size) → (m, channels, images, *size): of several images a sample."""
    return values.movedim(1, 2) if values.dim() > len(module.kernel_size) + 2 else values


def channel_sums(values: Tensor) -> Tensor:
    """(m, channels, …) → (m, channels)."""
    # PyTorch adds up each row of contiguous numbers by itself, in an order that depends on its length alone.
    return values.flatten(2).contiguous().sum(dim=2)


def window_of(module: Any, values: Tensor) -> Window:
    """The window with a position for each number of a channel; several images are an axis with a kernel of one."""
    images = (1,) * (values.dim() - 2 - len(module.kernel_size))
    return Window(
        images + module.kernel_size,
        images + module.stride,
        images + module.dilation,
        tuple(values.shape[2:]),
    )


def _padded(module: Any, x: Tensor, g: Tensor) -> Tensor:
    """The input (m, …, c, *size) with the padding that the layer gives it, channels second."""
    axes = len(module.kernel_size)
    margins = _margins(module, tuple(x.shape[-axes:]), tuple(g.shape[-axes:]))
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    padded = torch.nn.functional.pad(x.flatten(0, -axes - 2), margins, mode=mode)
    return channels_second(module, padded.reshape(*x.shape[: -axes - 1], *padded.shape[1:]))


def _margins(module: Any, size: tuple[int, ...], positions: tuple[int, ...]) -> list[int]:
    """The padding before and after each axis, the last one first as torch wants it.

    That of the module if it leads to so many positions; else as much as they need, evenly, as layers do that pad to
    ceil(size / stride) when they are called.
    """
    margins: list[int] = []
    own = list(module._reversed_padding_repeated_twice)  # noqa: SLF001 -- as the layer itself reads it
    if module.padding_mode == "zeros" and isinstance(module.padding, tuple):
        own = [each for each in reversed(module.padding) for _ in range(2)]
    window = Window(module.kernel_size, module.stride, module.dilation, positions)
    for axis in reversed(range(len(size))):
        before, after = own[len(margins)], own[len(margins) + 1]
        missing = window.extent[axis] - size[axis]
        if not 0 <= before + after - missing < window.stride[axis]:
            before, after = missing // 2, missing - missing // 2
        margins += [before, after]
    return margins
