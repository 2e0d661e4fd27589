"""Small models of pictures that tests name in configurations, and odd ones: `tests.support.models.images:small`."""

from __future__ import annotations

from torch import Tensor, nn

SIZE = 8
"""Height and width of the pictures they take."""


def small(channels: int = 1, size: int = SIZE, classes: int = 3) -> nn.Module:
    """AlexNet's plan in small: convolution, pooling, two Linear layers; knows its input shape."""
    model = nn.Sequential(
        nn.Conv2d(channels, 4, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(4 * (size // 2) ** 2, 24), nn.ReLU(inplace=True), nn.Linear(24, classes),
    )  # fmt: skip
    model.input_shape = (channels, size, size)  # type: ignore[assignment]  # an attribute that is no module
    return model


def with_batch_norm(classes: int = 3) -> nn.Module:
    """The same with BatchNorm, left in train mode by its owner."""
    model = small(classes=classes)
    assert isinstance(model, nn.Sequential)
    model.insert(1, nn.BatchNorm2d(4))
    return model.train()


class OneIdle(nn.Module):
    """Has a layer, `spare`, that its forward pass never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = small()
        self.spare = nn.Linear(3, 3)
        self.input_shape = (1, SIZE, SIZE)

    def forward(self, inputs: Tensor) -> Tensor:
        """The inner model's logits."""
        logits: Tensor = self.inner(inputs)
        return logits


def one_idle() -> nn.Module:
    """A model with a layer that never runs."""
    return OneIdle()
