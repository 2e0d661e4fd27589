"""A captured call of one layer, and what its gradient must come to."""

from collections.abc import Sequence
from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from dugs_stream.core.gradients.capture import CallAxes, LayerCall
from dugs_stream.core.gradients.layers import Layer, parameter_layers
from dugs_stream.core.sketch.count_sketch import Sketch
from dugs_stream.core.sketch.scaling import ScaledSum
from tests.support.oracles.gradients import sketched

DIMENSION = 24


def the_layer(module: nn.Module) -> Layer:
    """The module as the only layer of a model."""
    return parameter_layers(nn.ModuleDict({"layer": module.eval()}))["layer"]


def call_of(layer: Layer, inputs: Tensor, gradient: Tensor) -> tuple[LayerCall, CallAxes]:
    """The layer's call on inputs (m, …) whose output has this gradient."""
    _, structure = pytree.tree_flatten(((inputs,), {}))
    call = LayerCall(layer, [inputs], structure, [inputs], [0], gradients=[gradient])
    return call, CallAxes((0,), (0,))


def by_autograd(module: nn.Module, inputs: Tensor, gradient: Tensor) -> list[list[Tensor]]:
    """The gradient of every parameter for each sample alone."""
    parameters = [each.requires_grad_() for each in module.parameters()]
    return [
        list(torch.autograd.grad(module(inputs[at : at + 1].clone()), parameters, gradient[at : at + 1]))
        for at in range(len(inputs))
    ]


def vectors(kind: ModuleType, layer: Layer, inputs: Tensor, gradient: Tensor) -> np.ndarray:
    """The sketched gradients (m, k) of the layer's parameters, as float64."""
    call, axes = call_of(layer, inputs, gradient)
    total = ScaledSum(len(inputs), DIMENSION, inputs.dtype, inputs.device)
    kind.add_terms(total, call, axes, Sketch(0, DIMENSION, inputs.device))
    found, exponents = total.total()
    return np.ldexp(found.double().numpy(), exponents.numpy()[:, None])


def require_autograds(kind: ModuleType, module: nn.Module, inputs: Tensor, tolerance: float = 1e-9) -> None:
    """In float64 `formed` is autograd's gradient, and the vector is its sketch by the definition."""
    module, inputs = module.double(), inputs.double()
    layer = the_layer(module)
    assert kind.takes(layer)
    with torch.no_grad():
        gradient = torch.randn(module(inputs.clone()).shape, dtype=torch.float64)
    expected = by_autograd(module, inputs, gradient)
    module.requires_grad_(False)
    call, axes = call_of(layer, inputs, gradient)
    for at, each in enumerate(expected):
        for found, wanted in zip(kind.formed(call, axes, at), each, strict=True):
            torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance)
    named = [
        {owned.name: part.numpy() for owned, part in zip(layer.parameters, each, strict=True)}
        for each in expected
    ]
    definition = np.stack([sketched(each, 0, DIMENSION) for each in named])
    np.testing.assert_allclose(
        vectors(kind, layer, inputs, gradient), definition, rtol=tolerance, atol=tolerance
    )


def require_same_bits(kind: ModuleType, module: nn.Module, inputs: Tensor, places: Sequence[int]) -> None:
    """In float32 a sample has the same bits at every place of the batch and beside any others."""
    module = module.float().requires_grad_(False)
    layer, inputs = the_layer(module), inputs.float()
    gradient = torch.randn(module(inputs.clone()).shape)
    once = vectors(kind, layer, inputs, gradient)
    order = torch.tensor(places) % len(inputs)
    moved = vectors(kind, layer, inputs[order], gradient[order])
    assert np.array_equal(moved, once[order.numpy()])
