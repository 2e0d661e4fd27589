"""Whole loss of one sample, backward to the chosen parameters: the last resort, right for all that autograd can do.

A sample at a time, so nothing depends on hooks, on axes or on other samples. Several times slower than any other way.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dugs_stream.core.gradients.inference import differentiable, forward, tracked
from dugs_stream.core.gradients.layers import OwnedParameter
from dugs_stream.core.gradients.vjp import as_real
from dugs_stream.core.losses.loss import Loss
from dugs_stream.core.samples import Inputs, copied


def sample_gradients(
    model: nn.Module,
    parameters: Sequence[OwnedParameter],
    loss: Loss,
    inputs: Inputs,
    labels: Tensor | None,
) -> tuple[list[Tensor], Tensor | None]:
    """The gradient of the last sample of `inputs` (m, …), labels (m,), for each parameter, and the labels (m,) used.

    In the parameters' order and shapes, as real numbers. Call it inside `inference(model)`.
    """
    # All parameters, as in training: a model may ask for the gradient of what it computes on the way.
    with tracked(differentiable(model)):
        _, losses, in_force = forward(model, loss, copied(inputs), labels)
        found: Sequence[Tensor | None] = [None] * len(parameters)
        if losses.requires_grad:
            leaves = [owned.parameter for owned in parameters]
            found = torch.autograd.grad(losses[-1], leaves, allow_unused=True)
    return [as_real(gradient, owned) for owned, gradient in zip(parameters, found, strict=True)], in_force
