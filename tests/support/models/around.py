"""A small model with any function between two Linear layers."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


class Lambda(nn.Module):
    """Any function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, inputs: Tensor) -> Tensor:
        """What the function returns."""
        return self.function(inputs)


class Around(nn.Module):
    """Linear layer `body`, the function as `middle`, Linear layer `head`: (m, 4) → (m, 3)."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.body = nn.Linear(4, 4)
        self.middle = Lambda(function)
        self.head = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits."""
        logits: Tensor = self.head(self.middle(self.body(inputs)))
        return logits
