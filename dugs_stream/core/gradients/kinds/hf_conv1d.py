"""Fast path of linear layers whose weight has its inputs first (Conv1D of transformers): the sketch of Σ_t a_t ⊗ g_t.

As `core.gradients.kinds.linear`, at the same cost: only the weight's axes, and so the roles of the factors, are exchanged.
"""

import torch
from torch import Tensor

from dugs_stream.core.gradients.capture import CallAxes, LayerCall
from dugs_stream.core.gradients.kinds.linear import form_of, positions
from dugs_stream.core.gradients.layers import Layer
from dugs_stream.core.sketch.axis import position_sum
from dugs_stream.core.sketch.count_sketch import Sketch
from dugs_stream.core.sketch.scaling import ScaledSum, normalised


def takes(layer: Layer) -> bool:
    """Whether the layer computes exactly x·W + b of its own two parameters."""
    return form_of(layer) == "inputs first"


def needs_trial(_layer: Layer) -> bool:
    """Whether the forward may hide something that only a gradient shows: it is always one of its own."""
    return True


def add_terms(total: ScaledSum, call: LayerCall, axes: CallAxes, sketch: Sketch) -> None:
    """Add the sketched gradients (m, k) of weight and bias from one call of the layer to `total`."""
    gradient, axis = call.gradients[0], axes.outputs[0]
    if gradient is None or axis is None:
        return
    g, g_exponents = normalised(positions(gradient, axis, total.dtype))  # (m, t, g)
    for owned in call.layer.parameters:
        parameter = sketch.parameter(owned.name, owned.parameter.shape)
        if owned.local == "bias":
            total.add(parameter.vector(position_sum(g)), g_exponents)
            continue
        a, a_exponents = normalised(positions(call.inputs[0], axis, total.dtype))  # (m, t, a)
        parameter.add_outer(total, a, g, g_exponents + a_exponents)


def formed(call: LayerCall, axes: CallAxes, sample: int) -> list[Tensor]:
    """The gradient of one sample for each of the layer's own parameters, in their order and shapes."""
    gradient, axis = call.gradients[0], axes.outputs[0]
    if gradient is None or axis is None:
        return [torch.zeros_like(owned.parameter) for owned in call.layer.parameters]
    dtype = torch.promote_types(gradient.dtype, torch.float32)
    g = positions(gradient, axis, dtype)[sample]  # (t, g)
    a = positions(call.inputs[0], axis, dtype)[sample]  # (t, a)
    return [g.sum(dim=0) if owned.local == "bias" else a.T @ g for owned in call.layer.parameters]
