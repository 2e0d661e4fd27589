"""Fast path of embeddings that share their weight with a chosen layer: the sketch of the rows that a sample touched.

Cost of a sample: O(t·k) for t tokens and any vocabulary; a formed gradient would be as large as the weight. An
embedding that is itself chosen goes by `core.gradients.vjp`, as in earlier versions: its vectors keep their bits.
"""

import torch
from torch import Tensor, nn

from dugs_stream.core.gradients.capture import CallAxes, LayerCall
from dugs_stream.core.gradients.kinds.linear import positions
from dugs_stream.core.gradients.layers import Layer
from dugs_stream.core.sketch.count_sketch import Sketch
from dugs_stream.core.sketch.scaling import ScaledSum, normalised


def takes(layer: Layer) -> bool:
    """Whether the layer looks up rows of a weight that counts only because a chosen layer shares it."""
    module = layer.module
    return (
        layer.is_sharing
        and isinstance(module, nn.Embedding)
        and type(module).forward is nn.Embedding.forward
        and "forward" not in vars(module)  # replaced on this one object
        and not module.scale_grad_by_freq
    )


def add_terms(total: ScaledSum, call: LayerCall, axes: CallAxes, sketch: Sketch) -> None:
    """Add the sketched gradient (m, k) of the weight from one call of the layer to `total`."""
    (owned,) = call.layer.parameters
    ids, g = _factors(call, axes, total.dtype)
    g, exponents = normalised(g)
    total.add(sketch.parameter(owned.name, owned.shape).touched_rows(ids, g), exponents)


def formed(call: LayerCall, axes: CallAxes, sample: int) -> list[Tensor]:
    """The weight's gradient of one sample."""
    (owned,) = call.layer.parameters
    ids, g = _factors(call, axes, torch.promote_types(owned.parameter.dtype, torch.float32))
    whole = torch.zeros(owned.shape, dtype=g.dtype, device=g.device)
    return [whole.index_add_(0, ids[sample], g[sample])]


def _factors(call: LayerCall, axes: CallAxes, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Row numbers (m, t) and output gradients (m, t, d); those of the padding row are zero."""
    gradient, axis = call.gradients[0], axes.outputs[0]
    assert gradient is not None  # noqa: S101 -- a call without rows does not come here
    assert axis is not None  # noqa: S101
    ids = call.inputs[0].movedim(axis, 0).flatten(1) if axis else call.inputs[0].reshape(len(gradient), -1)
    g = positions(gradient, axis, dtype)
    padding = call.layer.module.padding_idx
    if padding is not None:
        g = g * (ids != padding)[:, :, None]
    return ids.long(), g
