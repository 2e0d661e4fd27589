"""Fast path of embeddings, single or in bags: the sketch of the rows that a sample touched.

Cost of a sample: O(t·k) for t tokens and any vocabulary; a formed gradient would be as large as the weight. Ids may be
shared by all samples (position embeddings).
"""

from typing import Any

import torch
from torch import Tensor, nn

from dugs_stream.core.gradients.capture import CallAxes, LayerCall
from dugs_stream.core.gradients.kinds.linear import positions
from dugs_stream.core.gradients.layers import Layer
from dugs_stream.core.sketch.count_sketch import Sketch
from dugs_stream.core.sketch.scaling import ScaledSum


def takes(layer: Layer) -> bool:
    """Whether the layer looks up rows of its one weight, and adds or averages them if they are in bags."""
    module = layer.module
    if "forward" in vars(module) or [owned.local for owned in layer.parameters] != ["weight"]:
        return False
    if isinstance(module, nn.EmbeddingBag):
        return (
            type(module).forward is nn.EmbeddingBag.forward
            and module.mode in ("sum", "mean")
            and not module.scale_grad_by_freq
        )
    return (
        isinstance(module, nn.Embedding)
        and type(module).forward is nn.Embedding.forward
        and not module.scale_grad_by_freq
    )


def add_terms(total: ScaledSum, call: LayerCall, axes: CallAxes, sketch: Sketch) -> None:
    """Add the sketched gradient (m, k) of the weight from one call of the layer to `total`."""
    (owned,) = call.layer.parameters
    ids, g = _factors(call, axes, total.dtype)
    g, exponents = total.normalised(g)
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
    given, weights = call.argument("input", 0), call.argument("per_sample_weights", 2)
    module = call.layer.module
    ids = _rows_of_samples(given, axes.inputs[0], len(gradient) if axis == 0 else gradient.shape[axis])
    g = positions(gradient, axis, dtype)
    counted = torch.ones_like(ids, dtype=dtype)
    padding: Any = module.padding_idx
    if padding is not None:
        padding = padding % module.num_embeddings  # −1 is the last row
        counted = counted.masked_fill(ids == padding, 0)
    if isinstance(module, nn.EmbeddingBag):
        if given.dim() != 2:  # noqa: PLR2004 -- flat ids with offsets: which are a sample's, the offsets say
            raise ValueError("a bag of flat ids")
        if weights is not None:
            counted = counted * weights.to(dtype)
        if module.mode == "mean":
            counted = counted / counted.sum(dim=1, keepdim=True).clamp(min=1)
        g = g.expand(-1, ids.shape[1], -1)
    return ids.long(), g * counted[:, :, None]


def _rows_of_samples(ids: Tensor, axis: int | None, m: int) -> Tensor:
    if axis is None:  # the same for all samples
        return ids.reshape(1, -1).expand(m, -1)
    return ids.movedim(axis, 0).reshape(m, -1)
