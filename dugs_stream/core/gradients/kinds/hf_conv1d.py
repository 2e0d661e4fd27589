"""Fast path of linear layers whose weight has its inputs first (Conv1D of transformers): the sketch of Σ_t a_t ⊗ g_t.

As `core.gradients.kinds.linear`, at the same cost: only the weight's axes, and so the roles of the factors, are exchanged.
"""

from torch import Tensor

from dugs_stream.core.gradients.capture import CallAxes, LayerCall
from dugs_stream.core.gradients.kinds.linear import add_products, form_of, products, require_form
from dugs_stream.core.gradients.layers import Layer
from dugs_stream.core.sketch.count_sketch import Sketch
from dugs_stream.core.sketch.scaling import ScaledSum


def takes(layer: Layer) -> bool:
    """Whether the layer computes exactly x·W + b of its own two parameters."""
    return form_of(layer) == "inputs first"


def needs_trial(_layer: Layer) -> bool:
    """Whether the forward may hide something that only a gradient shows: it is always one of its own."""
    return True


def add_terms(total: ScaledSum, call: LayerCall, axes: CallAxes, sketch: Sketch) -> None:
    """Add the sketched gradients (m, k) of weight and bias from one call of the layer to `total`."""
    add_products(total, call, axes, sketch, inputs_first=True)


def formed(call: LayerCall, axes: CallAxes, sample: int) -> list[Tensor]:
    """The gradient of one sample for each of the layer's own parameters, in their order and shapes."""
    require_form(call, "inputs first")
    return products(call, axes, sample, inputs_first=True)
