"""Local vector-Jacobian product of output gradients as they are, for layers whose backward pass is not linear in them.

A gradient that is clipped on its way back, by a hook or by a torch.autograd.Function, is another one once it is scaled; so
small gradients may underflow here as they do in autograd itself.
"""

import torch
from torch import Tensor

from dugs_stream.core.gradients.capture import CallAxes, LayerCall
from dugs_stream.core.gradients.vjp import add_sketched, formed_as_written, output_gradients
from dugs_stream.core.sketch.count_sketch import Sketch
from dugs_stream.core.sketch.scaling import ScaledSum


def add_terms(total: ScaledSum, call: LayerCall, axes: CallAxes, sketch: Sketch) -> None:
    """Add the sketched gradients (m, k) of the layer's parameters from one call of it to `total`."""
    gradients = output_gradients(call, axes)
    present = [leaf for leaf in gradients if leaf is not None]
    if present:
        scale = torch.zeros(len(present[0]), dtype=torch.int32, device=present[0].device)
        add_sketched(total, call, axes, sketch, gradients, scale)


def formed(call: LayerCall, axes: CallAxes, sample: int) -> list[Tensor]:
    """The gradient of one sample for each of the layer's own parameters, in their order and shapes."""
    return formed_as_written(call, axes, sample)
