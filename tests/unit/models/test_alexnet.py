"""The built-in AlexNet: the original geometry for large images, the same widths for small ones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dugs_stream.core.operations import OperationMode
from dugs_stream.models import alexnet
from dugs_stream.models.alexnet import AlexNet, build
from dugs_stream.models.loading import load_model

FACTORY = "dugs_stream.models.alexnet:build"


def parameters(model: nn.Module) -> int:
    """The number of parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def kernels(model: AlexNet) -> list[tuple[int, ...]]:
    """The convolutions, each as (outputs, inputs, height, width)."""
    return [tuple(layer.weight.shape) for layer in model.features if isinstance(layer, nn.Conv2d)]


def shapes(height: int, width: int, channels: int = 3, classes: int = 10) -> AlexNet:
    """The same model without its numbers: enough to count them."""
    with torch.device("meta"):
        return AlexNet(height, width, channels, classes, dropout=0.5)


def test_28_pixels_end_in_256_by_3_by_3_features() -> None:
    """Full width: 28.7 million parameters with 10 classes."""
    model = shapes(28, 28, channels=1)

    assert model.classifier[1].in_features == 256 * 3 * 3
    assert parameters(model) == 28_711_626
    assert kernels(model) == [
        (64, 1, 5, 5),
        (192, 64, 5, 5),
        (384, 192, 3, 3),
        (256, 384, 3, 3),
        (256, 256, 3, 3),
    ]


def test_224_pixels_are_the_original() -> None:
    """61 100 840 parameters with 1000 classes, as published."""
    model = shapes(224, 224, classes=1000)

    assert model.classifier[1].in_features == 256 * 6 * 6
    assert parameters(model) == 61_100_840
    assert kernels(model)[0] == (64, 3, 11, 11)


@pytest.mark.parametrize(
    ("size", "shape"), [(28, (3, 28, 28)), ([30, 9], (3, 30, 9)), (8, (3, 8, 8)), (63, (3, 63, 63))]
)
def test_model_takes_the_size_it_was_built_for(size: int | list[int], shape: tuple[int, ...]) -> None:
    """Height before width; logits come out, one a class."""
    model = build(size, classes=4).eval()

    assert model.input_shape == shape
    with torch.inference_mode():
        assert model(torch.zeros(2, *shape)).shape == (2, 4)


def test_large_image_does_not_grow_the_linear_layers() -> None:
    """Features beyond 6×6 are averaged down."""
    assert parameters(shapes(500, 400)) == parameters(shapes(224, 224))


def test_size_that_leaves_no_features_is_refused() -> None:
    """Three pools of two need eight pixels."""
    sizes: list[int | list[int]] = [7, 0, -1, [28, 7], [28], [28, 28, 28]]
    for size in sizes:
        message = f"image_size {size!r}: expected one side or [height, width], each of at least 8 pixels."
        with pytest.raises(ValueError, match=re.escape(message)):
            build(size)


def test_model_without_channels_or_classes_is_refused() -> None:
    """Both are at least one."""
    for name in ("channels", "classes"):
        with pytest.raises(ValueError, match=rf"{name} 0: expected at least 1\."):
            build(8, **{name: 0})


def test_activations_work_in_place() -> None:
    """As in the original, so a hook sees activations that are overwritten later."""
    assert all(module.inplace for module in build(8).modules() if isinstance(module, nn.ReLU))


def test_model_is_the_same_for_the_same_seed() -> None:
    """Untrained weights come from the seed."""
    first, again = (load_model(FACTORY, {"image_size": 8, "channels": 1}, None, 3) for _ in range(2))

    assert (first.name, first.input_shape) == ("alexnet", (1, 8, 8))
    assert first.weights_digest == again.weights_digest


def test_signal_keeps_its_size_through_the_layers() -> None:
    """Untrained logits of noise are of the order of one, so that training starts at once."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build(28, channels=1).eval()
        with torch.inference_mode():
            logits = model(torch.randn(8, 1, 28, 28))

    assert 0.1 < logits.std().item() < 10


def test_numbers_that_the_file_replaces_are_not_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty-eight million of them take longer than what a hundred digits come to; without a file they are drawn."""

    class Draws(OperationMode):
        drawn = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.drawn += func is torch.ops.aten.normal_.default
            return func(*args, **(kwargs or {}))

    monkeypatch.setattr(alexnet, "_WIDTH", 8)
    kwargs = {"image_size": 8, "channels": 1}
    torch.save(build(**kwargs).state_dict(), tmp_path / "weights.pt")
    counted = []
    for path in (None, tmp_path / "weights.pt"):
        with Draws() as draws:
            load_model(FACTORY, kwargs, path, 0)
        counted.append(draws.drawn)

    assert counted == [8, 0]
