"""What is measured on? The built-in AlexNet and real digits; or a toy of the same form, for a quick run."""

from __future__ import annotations

import copy
import hashlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor, nn

from benchmarks.environment import ROOT
from benchmarks.models import efficientnet_lite0
from dugs_stream.lab.demo import training
from dugs_stream.lab.demo.digits import load_digits
from dugs_stream.lab.demo.training import MODEL_KWARGS, as_inputs, train
from dugs_stream.models import alexnet

CHOSEN_LAYERS = 2
"""The last two Linear layers, everywhere in these benchmarks."""

DIGIT_MODEL: Mapping[str, Any] = {"factory": "dugs_stream.models.alexnet:build", "kwargs": dict(MODEL_KWARGS)}
TOY_MODEL: Mapping[str, Any] = {"factory": "benchmarks.workload:Toy"}
"""The two models as the configuration block `model` names them."""

SMALL_RECORD_NUMBERS = 64

_CACHE = ROOT / ".cache" / "benchmarks"


@dataclass(frozen=True, slots=True)
class Workload:
    """A model in eval mode, and samples for it.

    chosen       dotted names of the last two Linear layers
    head         the model's tail from the first of them on, as a model of its own (the same weights, copied)
    head_inputs  what that tail is given for these samples, (n, features)
    """

    model: nn.Module
    chosen: tuple[str, str]
    head: nn.Sequential
    inputs: Tensor
    labels: Tensor
    head_inputs: Tensor


class Toy(nn.Sequential):
    """Two small Linear layers behind a convolution: 8×8 grey images, 4 classes."""

    input_shape = (1, 8, 8)

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 4, kernel_size=3, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Linear(64, 16),
            nn.ReLU(inplace=True),
            nn.Linear(16, 4),
        )


class TwoLayers(nn.Sequential):
    """Next to nothing to compute: 64 numbers, 4 classes; the same weights in every process."""

    input_shape = (SMALL_RECORD_NUMBERS,)

    def __init__(self) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            super().__init__(nn.Linear(SMALL_RECORD_NUMBERS, 16), nn.ReLU(), nn.Linear(16, 4))


class TwoLayersOnPhotos(nn.Sequential):
    """Little to compute of a photograph: 8 × 8 means of each colour, two small Linear layers, 10 classes."""

    input_shape = (3, 224, 224)

    def __init__(self) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            super().__init__(nn.AvgPool2d(28), nn.Flatten(), nn.Linear(192, 64), nn.ReLU(), nn.Linear(64, 10))


class TwoLayersOnLongRecords(nn.Sequential):
    """Little to compute of 5 MB of numbers: a hundred means, two small Linear layers, 4 classes."""

    input_shape = (1_250_000,)

    def __init__(self) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            (numbers,) = self.input_shape
            means = (nn.Unflatten(1, (1, numbers)), nn.AvgPool1d(numbers // 100), nn.Flatten())
            super().__init__(*means, nn.Linear(100, 16), nn.ReLU(), nn.Linear(16, 4))


def efficientnet() -> nn.Module:
    """EfficientNet-Lite0 with its ImageNet weights, for pictures of 224 × 224."""
    model = efficientnet_lite0()
    model.input_shape = (3, 224, 224)
    return model


def toy(samples: int, seed: int) -> Workload:
    """The toy, untrained, and random images."""
    torch.manual_seed(seed)
    model = Toy()
    inputs, labels = torch.rand(samples, *Toy.input_shape), torch.randint(0, 4, (samples,))
    return _workload(model, ("3", "5"), list(model)[3:], inputs, labels)


def alexnet_on_digits(samples: int, seed: int, *, is_trained: bool) -> Workload:
    """The AlexNet at full width for 28×28 digits (28.7 million parameters), and digits it was not trained on.

    Untrained weights are drawn under the seed; trained ones come from `digit_weights`.
    """
    torch.manual_seed(seed)
    model = alexnet.build(**MODEL_KWARGS)
    if is_trained:
        model.load_state_dict(load_file(digit_weights()))
    digits = load_digits().stream.part(0, samples)
    tail = list(model.classifier)[4:]
    inputs, labels = as_inputs(digits), torch.from_numpy(digits.labels)
    return _workload(model, ("classifier.4", "classifier.6"), tail, inputs, labels)


def digit_weights() -> Path:
    """Weights of the AlexNet as the demo trains it; a minute on two cores the first time, then kept.

    The file is named after the code that makes it: other code, other weights.
    """
    sources = "".join(inspect.getsource(module) for module in (alexnet, training))
    path = _CACHE / f"alexnet-digits-{hashlib.sha256(sources.encode()).hexdigest()[:8]}.safetensors"
    if not path.exists():
        Console(stderr=True).print("training AlexNet on 1 000 digits, once …", style="dim")
        arriving = path.with_suffix(".arriving")
        train(load_digits().train, arriving)
        arriving.rename(path)
    return path


def _workload(
    model: nn.Module, chosen: tuple[str, str], tail: Sequence[nn.Module], inputs: Tensor, labels: Tensor
) -> Workload:
    model.eval()
    caught: list[Tensor] = []
    hook = model.get_submodule(chosen[0]).register_forward_pre_hook(lambda _, given: caught.append(given[0]))
    with torch.no_grad():
        model(inputs)
    hook.remove()
    head = nn.Sequential(*copy.deepcopy(tail)).eval()
    return Workload(model, chosen, head, inputs, labels, caught[0].clone())
