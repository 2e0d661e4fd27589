"""What is a gradient held against? One plain forward pass and one batched backward pass over the same layers.

That is what training the chosen layers of a frozen model costs, and the least that yields their gradients; it
gives one gradient for the whole batch, not one a sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


def forward_and_backward(
    model: nn.Module, chosen: Sequence[str], inputs: Tensor, labels: Tensor
) -> Callable[[], tuple[Tensor, ...]]:
    """Forward and backward that yield the gradients of the chosen layers' parameters.

    Everything else is frozen, so autograd runs through the chosen layers alone.
    """
    model.requires_grad_(requires_grad=False)
    parameters = [
        parameter.requires_grad_() for name in chosen for parameter in model.get_submodule(name).parameters()
    ]

    def run() -> tuple[Tensor, ...]:
        loss = nn.functional.cross_entropy(model(inputs), labels, reduction="sum")
        return torch.autograd.grad(loss, parameters)

    return run
