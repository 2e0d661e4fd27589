"""What is a gradient held against? One plain forward pass and one batched backward pass over the same layers.

That is what training the chosen layers of a frozen model costs, and the least that yields their gradients; it
gives one gradient for the whole batch, not one a sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from benchmarks.layer_cases import Case, call, losses


def forward_and_backward(
    model: nn.Module, parameters: Sequence[nn.Parameter], summed_loss: Callable[[], Tensor]
) -> Callable[[], tuple[Tensor, ...]]:
    """Forward and backward that yield the gradients of the parameters, for the loss summed over the batch.

    Everything else is frozen, so autograd runs through the chosen layers alone.
    """
    model.requires_grad_(requires_grad=False)
    for parameter in parameters:
        parameter.requires_grad_()

    def run() -> tuple[Tensor, ...]:
        return torch.autograd.grad(summed_loss(), parameters)

    return run


def plain_backward(case: Case) -> Callable[[], tuple[Tensor, ...]]:
    """The baseline of a case. Leaves the model with gradients asked for the chosen parameters alone."""

    def summed_loss() -> Tensor:
        return losses(case, call(case.model, case.inputs), case.inputs, case.labels).sum()

    return forward_and_backward(case.model, list(case.parameters().values()), summed_loss)
