"""Fast path of layers that use their weights in products alone, however many and in whichever order: attention, adapters.

The products are recorded in the pass itself (`core.gradients.products`); each is a term Σ_t g_t ⊗ a_t, or rows of a
look-up, at the cost of `core.gradients.kinds.linear` or `core.gradients.kinds.embedding`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from dugs_stream.core.gradients.capture import CallAxes, LayerCall
from dugs_stream.core.gradients.kinds.factors import Factors, add_factors, formed_from
from dugs_stream.core.gradients.layers import Layer, OwnedParameter
from dugs_stream.core.gradients.products import Product
from dugs_stream.core.gradients.vjp import require_linear_backward
from dugs_stream.core.sketch.count_sketch import Sketch
from dugs_stream.core.sketch.scaling import ScaledSum


def takes(layer: Layer) -> bool:
    """Whether the layer's parameters are matrices, with vectors beside them: what the recording finds is right, or ends it."""
    axes = [owned.parameter.dim() for owned in layer.parameters]
    return (
        set(axes) <= {1, 2}
        and 2 in axes  # noqa: PLR2004 -- a matrix
        and all(owned.parameter.is_floating_point() for owned in layer.parameters)
    )


def add_terms(total: ScaledSum, call: LayerCall, axes: CallAxes, sketch: Sketch) -> None:
    """Add the sketched gradients (m, k) of the layer's parameters from one call of it to `total`."""
    factors, lookups = _factors(call, axes, total.dtype)
    nothing = torch.zeros(total_rows(call, axes), dtype=torch.int32, device=sketch.device)
    add_factors(total, call.layer.parameters, factors, nothing, sketch)
    for owned in call.layer.parameters:
        for ids, gradient in lookups.get(owned.local, ()):
            g, exponents = total.normalised(gradient)
            total.add(sketch.parameter(owned.name, owned.shape).touched_rows(ids, g), exponents)


def formed(call: LayerCall, axes: CallAxes, sample: int) -> list[Tensor]:
    """The gradient of one sample for each of the layer's own parameters, in their order and shapes."""
    require_linear_backward(call)  # what stands between a weight and its product is not recorded
    return formed_everywhere(call, axes, sample)


def formed_everywhere(call: LayerCall, axes: CallAxes, sample: int) -> list[Tensor]:
    """The same of products that may be outside of the layer's own forward."""
    dtype = torch.promote_types(call.layer.parameters[0].parameter.dtype, torch.float32)
    factors, lookups = _factors(call, axes, dtype)
    device = call.layer.parameters[0].parameter.device
    nothing = torch.zeros(total_rows(call, axes), dtype=torch.int32, device=device)
    found = formed_from(factors, call.layer.parameters, nothing, sample)
    for owned, whole in zip(call.layer.parameters, found, strict=True):
        for ids, g in lookups.get(owned.local, ()):
            whole.index_add_(0, ids[sample], g[sample].to(whole.dtype))
    return found


def total_rows(call: LayerCall, axes: CallAxes) -> int:
    """The number m of samples in a call."""
    return next(
        gradient.shape[axis]
        for gradient, axis in zip(call.gradients, axes.outputs, strict=True)
        if gradient is not None and axis is not None
    )


_Lookups = dict[str, list[tuple[Tensor, Tensor]]]
"""By weight: row numbers (m, t) and output gradients (m, t, d)."""


def _factors(call: LayerCall, axes: CallAxes, dtype: torch.dtype) -> tuple[dict[str, Factors], _Lookups]:
    m = total_rows(call, axes)
    own_axis = next(axis for axis in axes.outputs if axis is not None)
    shapes = {owned.local: owned for owned in call.layer.parameters}
    parts: dict[str, list[Factors]] = {}
    lookups: _Lookups = {}
    for product in call.products:
        if product.gradient is None:
            continue
        axis = own_axis if product.axis is None else product.axis
        g = _of_samples(product.gradient, axis, m, 1).to(dtype)
        if product.is_lookup and product.weight is not None:
            ids = _of_samples(product.inputs, axis, m, 0)
            if product.padding is not None:
                g = g * (ids != product.padding)[:, :, None]
            lookups.setdefault(product.weight, []).append((ids, g))
            continue
        a = _of_samples(product.inputs, axis, m, 1).to(dtype)
        if product.weight is not None:
            parts.setdefault(product.weight, []).append(_on_rows(product, g, a, shapes[product.weight]))
        if product.bias is not None:
            length = shapes[product.bias].shape[0]
            parts.setdefault(product.bias, []).append(Factors(_padded(g, product.bias_start, length), None))
    return {name: _joined(each) for name, each in parts.items()}, lookups


def _on_rows(product: Product, g: Tensor, a: Tensor, owned: OwnedParameter) -> Factors:
    if product.is_transposed:
        g, a = a, g
    return Factors(_padded(g, product.start, owned.shape[0]), a)


def _padded(g: Tensor, start: int, rows: int) -> Tensor:
    """Gradients of some rows among zeros for the others."""
    return g if g.shape[2] == rows else functional.pad(g, (start, rows - start - g.shape[2]))


def _joined(parts: Sequence[Factors]) -> Factors:
    """Uses of one weight as more positions of one use."""
    if len(parts) == 1:
        return parts[0]
    inputs = [part.a for part in parts if part.a is not None]
    return Factors(torch.cat([part.g for part in parts], dim=1), torch.cat(inputs, dim=1) if inputs else None)


def _of_samples(values: Tensor, axis: int, m: int, widths: int) -> Tensor:
    """(m, t, width) or, without a width, (m, t): the samples on `axis`, or with positions on the first axis, samples first."""
    if values.dim() - widths > axis and values.shape[axis] == m:
        values = values.movedim(axis, 0)
    elif values.shape[0] % m:
        raise ValueError(f"{values.shape[0]} rows of {m} samples")
    return values.reshape(m, -1, *values.shape[values.dim() - widths :])
