"""Training of the demo's AlexNet on digits, with a minimum accuracy.

Accuracy is that on digits held out of training. Training stops at the first epoch that reaches the goal on
them, which biases the number slightly upwards; the 4 000 streamed digits are not used. Same seed, same thread
count, same machine: same weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from dugs_stream.errors import ModelError
from dugs_stream.lab.demo.digits import CLASSES, SIDE, Digits
from dugs_stream.models import alexnet

MODEL_KWARGS: Mapping[str, Any] = {"classes": len(CLASSES), "channels": 1, "image_size": SIDE}
"""Arguments of the built-in AlexNet, for training and for loading the weights."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Training parameters; the defaults reach an accuracy of 0.9 within about a minute on two cores.

    held_out       digits at the end of the training set that are never trained on
    goal           accuracy on them that ends training
    minimum        accuracy below which training fails
    """

    held_out: int = 200
    batch: int = 32
    learning_rate: float = 3e-4
    goal: float = 0.9
    minimum: float = 0.8
    epochs: int = 10
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """Progress: `step` of at most `steps`; an epoch that reaches the goal ends training sooner.

    loss      mean cross entropy of the last mini-batch, in nats
    accuracy  on the held-out digits at the end of the last finished epoch; None before
    """

    step: int
    steps: int
    epoch: int
    loss: float
    accuracy: float | None

    def __str__(self) -> str:
        """What a progress bar says beside the count."""
        accuracy = "" if self.accuracy is None else f"  accuracy {self.accuracy:.2f}"
        return f"epoch {self.epoch}  loss {self.loss:.3f}{accuracy}"


def train(
    digits: Digits,
    weights: Path,
    *,
    on_step: Callable[[Step], None] | None = None,
    plan: Plan | None = None,
    build: Callable[[], nn.Module] = lambda: alexnet.build(**MODEL_KWARGS),
) -> float:
    """Train the model of `build` (the AlexNet) on `digits` and save it to `weights` (safetensors); returns its accuracy.

    `on_step` hears of every mini-batch and of every epoch's accuracy. Raises ModelError, and saves nothing, if
    the accuracy ends below the plan's minimum.
    """
    plan = plan or Plan()
    # forked, so that the caller's random state is unchanged
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        model = build()
        accuracy, epochs = _fit(model, digits, plan, on_step or (lambda _: None))
    if accuracy < plan.minimum:
        raise ModelError(
            f"training ended at an accuracy of {accuracy:.2f} on {plan.held_out} held-out digits, after {epochs} "
            f"epochs on {len(digits) - plan.held_out}; expected at least {plan.minimum:.2f}. Gradients of an untrained model say little about "
            "the data, so the demo stops here. Run it again; if it fails again, report it with the versions of "
            "torch and Python."
        )
    weights.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, weights)
    return accuracy


def as_inputs(digits: Digits) -> Tensor:
    """The images as the image codec yields them: (n, 1, 28, 28) float32 in 0…1."""
    return torch.from_numpy(digits.images).unsqueeze(1).float() / 255


def _fit(model: nn.Module, digits: Digits, plan: Plan, on_step: Callable[[Step], None]) -> tuple[float, int]:
    """Train until an epoch reaches the goal, or all are done; → accuracy on the held-out digits, epochs."""
    seen = len(digits) - plan.held_out
    inputs, labels = as_inputs(digits), torch.from_numpy(digits.labels)
    optimizer = torch.optim.Adam(model.parameters(), lr=plan.learning_rate, fused=True)
    batches = -(-seen // plan.batch)
    accuracy: float | None = None
    step = 0
    for epoch in range(1, plan.epochs + 1):
        for loss in _epoch(model, optimizer, inputs[:seen], labels[:seen], plan.batch):
            step += 1
            on_step(Step(step, batches * plan.epochs, epoch, loss, accuracy))
        accuracy = _accuracy(model, inputs[seen:], labels[seen:])
        on_step(Step(step, batches * plan.epochs, epoch, loss, accuracy))
        if accuracy >= plan.goal:
            break
    return accuracy or 0.0, epoch


def _epoch(
    model: nn.Module, optimizer: torch.optim.Optimizer, inputs: Tensor, labels: Tensor, batch: int
) -> Iterator[float]:
    """One pass in random order; yields each mini-batch's loss after its update."""
    model.train()
    for chosen in torch.split(torch.randperm(len(inputs)), batch):
        optimizer.zero_grad(set_to_none=True)
        loss = nn.functional.cross_entropy(model(inputs[chosen]), labels[chosen])
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves Tensor.backward untyped
        optimizer.step()
        yield loss.item()


@torch.inference_mode()
def _accuracy(model: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    model.eval()
    predicted = torch.cat([model(part).argmax(dim=1) for part in torch.split(inputs, 100)])
    return float((predicted == labels).double().mean())
