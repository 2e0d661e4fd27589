"""Fast path of Linear layers: the sketch of Σ_t g_t ⊗ a_t from output gradients and activations alone.

Cost of a sample: O(t·k·log k) by the spectral route, O(t·g·a) by the summed one; the shapes choose the cheaper one
(`core.sketch.count_sketch`). Either way without a backward pass of its own.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dugs_stream.core.gradients.capture import CallAxes, LayerCall
from dugs_stream.core.gradients.kinds.recognition import LinearForm, linear_form
from dugs_stream.core.gradients.layers import Layer
from dugs_stream.core.sketch.axis import position_sum
from dugs_stream.core.sketch.count_sketch import Sketch
from dugs_stream.core.sketch.scaling import ScaledSum


def takes(layer: Layer) -> bool:
    """Whether the layer computes exactly x·Wᵀ + b of its own two parameters, so that the factors are enough."""
    return form_of(layer) == "outputs first"


def needs_trial(layer: Layer) -> bool:
    """Whether the forward is one of its own, which may hide something that only a gradient shows."""
    return type(layer.module).forward is not nn.Linear.forward or "forward" in vars(layer.module)


def form_of(layer: Layer, shape: Sequence[int] = (1,)) -> LinearForm | None:
    """How the layer uses its weight, if it has no parameters but that and a bias; shape: of its input, without the width."""
    weight, bias = (getattr(layer.module, name, None) for name in ("weight", "bias"))
    if not {owned.local for owned in layer.parameters} <= {"weight", "bias"} or not isinstance(
        weight, Tensor
    ):
        return None
    return linear_form(layer.module, weight, bias, shape)


def add_terms(total: ScaledSum, call: LayerCall, axes: CallAxes, sketch: Sketch) -> None:
    """Add the sketched gradients (m, k) of weight and bias from one call of the layer to `total`."""
    add_products(total, call, axes, sketch, inputs_first=False)


def formed(call: LayerCall, axes: CallAxes, sample: int) -> list[Tensor]:
    """The gradient of one sample for each of the layer's own parameters, in their order and shapes."""
    require_form(call, "outputs first")
    return products(call, axes, sample, inputs_first=False)


def require_form(call: LayerCall, form: LinearForm) -> None:
    """Raise ValueError if the forward is another one in this call: it may go by its input's axes, or by what the model sets."""
    if form_of(call.layer, call.inputs[0].shape[:-1]) != form:
        raise ValueError(f"{call.layer.title} computes something else within the model")


def add_products(
    total: ScaledSum, call: LayerCall, axes: CallAxes, sketch: Sketch, *, inputs_first: bool
) -> None:
    """As `add_terms`, for a weight (g, a), or (a, g) with `inputs_first`."""
    gradient, axis = call.gradients[0], axes.outputs[0]
    if gradient is None or axis is None:
        return
    g, g_exponents = total.normalised(positions(gradient, axis, total.dtype))  # (m, t, g)
    for owned in call.layer.parameters:
        parameter = sketch.parameter(owned.name, owned.parameter.shape)
        if owned.local == "bias":
            parameter.add_vector(total, position_sum(g), g_exponents)
            continue
        a, a_exponents = total.normalised(positions(call.inputs[0], axis, total.dtype))  # (m, t, a)
        rows, columns = (a, g) if inputs_first else (g, a)
        parameter.add_outer(total, rows, columns, g_exponents + a_exponents)


def products(call: LayerCall, axes: CallAxes, sample: int, *, inputs_first: bool) -> list[Tensor]:
    """As `formed`, for a weight (g, a), or (a, g) with `inputs_first`."""
    gradient, axis = call.gradients[0], axes.outputs[0]
    if gradient is None or axis is None:
        return [torch.zeros_like(owned.parameter) for owned in call.layer.parameters]
    dtype = torch.promote_types(gradient.dtype, torch.float32)
    g = positions(gradient, axis, dtype)[sample]  # (t, g)
    a = positions(call.inputs[0], axis, dtype)[sample]  # (t, a)
    weight = a.T @ g if inputs_first else g.T @ a
    return [g.sum(dim=0) if owned.local == "bias" else weight for owned in call.layer.parameters]


def positions(values: Tensor, axis: int, dtype: torch.dtype) -> Tensor:
    """(…, m at axis, …, d) → (m, t, d): all axes between are positions."""
    moved = values.movedim(axis, 0)
    return moved.reshape(moved.shape[0], -1, moved.shape[-1]).to(dtype)
