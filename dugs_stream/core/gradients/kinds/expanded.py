"""Fast path of small parameters that a module uses by itself: class tokens, position tables, scales, norms by hand.

In the pass each sample has a copy of its own (`core.gradients.per_sample`), so autograd's gradient of the copies is the
gradient of each sample. Cost: m copies, and one sketch of formed gradients. Uses outside of the module's call count too.
"""

import torch
from torch import Tensor

from dugs_stream.core.gradients.capture import CallAxes, LayerCall
from dugs_stream.core.gradients.layers import Layer
from dugs_stream.core.gradients.vjp import sketch_formed
from dugs_stream.core.sketch.count_sketch import Sketch
from dugs_stream.core.sketch.scaling import ScaledSum

_MOST_IN_VECTORS, _MOST_IN_MATRICES = 1 << 18, 1 << 16
"""Numbers of a layer's parameters, of which every sample has copies until the pass has gone back. A table that begins
with an axis of one counts as a vector: such a layer is one of few, and matrices are many."""


def takes(layer: Layer) -> bool:
    """Whether copies of the parameters are affordable."""
    shapes = [owned.parameter.shape for owned in layer.parameters]
    is_vectors = all(len(shape) < 2 or shape[0] == 1 for shape in shapes)  # noqa: PLR2004 -- two axes make a matrix
    return 0 < layer.size <= (_MOST_IN_VECTORS if is_vectors else _MOST_IN_MATRICES) and not any(
        owned.parameter.is_complex() for owned in layer.parameters
    )


def add_terms(total: ScaledSum, call: LayerCall, _axes: CallAxes, sketch: Sketch) -> None:
    """Add the sketched gradients (m, k) of the parameters to `total`."""
    stacks = [stack.to(total.dtype) for stack in _stacks(call)]
    total.add(*sketch_formed(stacks, call.layer.parameters, sketch, total.dtype))


def formed(call: LayerCall, _axes: CallAxes, sample: int) -> list[Tensor]:
    """The gradient of one sample for each of the layer's own parameters, in their order and shapes."""
    return [stack[sample] for stack in _stacks(call)]


def _stacks(call: LayerCall) -> list[Tensor]:
    """Of each parameter the gradients (m, *shape)."""
    return [
        torch.zeros_like(copies) if gradient is None else gradient
        for copies, gradient in zip(call.outputs, call.gradients, strict=True)
    ]
