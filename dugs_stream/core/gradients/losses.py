"""Losses per sample: built in by name, or a user's own function.

Built-in losses convert logits to float64 and never subtract a probability from 1: if the model is sure of a sample,
its gradient keeps its direction down to a norm of 1e-38, where float32 ends. None of them reduces over samples.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dugs_stream.errors import ModelError, SampleError

LossFunction = Callable[[Tensor, Tensor | None], Tensor]
"""(outputs of the model for m samples, labels (m,) or None) → loss of each sample, (m,) floating point."""


@dataclass(frozen=True)
class Loss:
    """A loss and the source of its labels.

    needs_labels     every sample must have a label, a class number within the logits
    predicts_labels  the labels are the model's own prediction; given ones are ignored
    """

    name: str
    function: LossFunction
    needs_labels: bool = False
    predicts_labels: bool = False

    @property
    def is_classification(self) -> bool:
        """Whether this loss takes the model's outputs for logits (m, classes)."""
        return self.needs_labels or self.predicts_labels

    def labels(self, outputs: Tensor, given: Tensor | None) -> Tensor | None:
        """The labels (m,) that the loss uses for these outputs: predicted, or those given."""
        return predicted_labels(outputs) if self.predicts_labels else given

    def per_sample(self, outputs: Tensor, labels: Tensor | None, m: int) -> Tensor:
        """The loss of each of the m samples, (m,) floating point. Raises ModelError for anything else."""
        found = self.function(outputs, labels)
        if not isinstance(found, Tensor):
            raise ModelError(
                f"the loss {self.name} returned {type(found).__name__}, expected a tensor with one loss a sample"
            )
        if found.shape != (m,) or not found.is_floating_point():
            raise SampleError(
                f"the loss {self.name} returned shape {tuple(found.shape)} of {found.dtype} for {m} "
                f"samples, expected ({m},) in floating point: one loss a sample, nothing summed or "
                "averaged over samples (in torch's own losses: reduction='none')"
            )
        return found


def cross_entropy(outputs: Tensor, labels: Tensor | None) -> Tensor:
    """−log softmax(logits)[label], logits (m, classes) → (m,) float64.

    As −log σ(logit of the label − log Σ exp(the other logits)), whose gradient σ(…)·softmax(others) loses no
    digits if the model is sure: softmax − 1 would, from a margin of 36 on even in float64.
    Raises ModelError for outputs that are not logits.
    """
    if labels is None:
        raise ModelError("cross entropy needs a label a sample, found None")
    logits = _logits(outputs).to(torch.float64)
    own = labels[:, None]
    others = logits.scatter(1, own, -torch.inf).logsumexp(dim=1)  # (m,)
    return -torch.nn.functional.logsigmoid(logits.gather(1, own)[:, 0] - others)


def predicted_labels(outputs: Tensor) -> Tensor:
    """The class of the largest logit, the first of equals: (m, classes) → (m,) int64."""
    return _logits(outputs).detach().argmax(dim=1)


_NAMED = {
    "label": Loss("label", cross_entropy, needs_labels=True),
    "pseudo": Loss("pseudo", cross_entropy, predicts_labels=True),
}


def resolve_loss(loss: str | LossFunction) -> Loss:
    """The loss behind a built-in name, or around a user's function. Raises ValueError for an unknown name."""
    if not isinstance(loss, str):
        if not callable(loss):
            raise TypeError(f"loss is {loss!r}, expected a name or a function (outputs, labels) -> (n,)")
        return Loss(getattr(loss, "__qualname__", type(loss).__name__), loss)
    if loss not in _NAMED:
        raise ValueError(f"loss is {loss!r}, expected one of {', '.join(sorted(_NAMED))}, or a function")
    return _NAMED[loss]


def _logits(outputs: Tensor) -> Tensor:
    if not isinstance(outputs, Tensor) or outputs.dim() != 2:  # noqa: PLR2004 -- samples by classes
        found = f"shape {tuple(outputs.shape)}" if isinstance(outputs, Tensor) else type(outputs).__name__
        raise SampleError(
            f"the model returned {found}, expected logits (samples, classes) for a classification loss; "
            "wrap the model, or give a loss function (outputs, labels) -> (n,)"
        )
    if outputs.shape[1] < 2:  # noqa: PLR2004 -- one class is always right
        raise ModelError("the model returned logits of a single class: their cross entropy has no gradient")
    return outputs
