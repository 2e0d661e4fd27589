"""Loss of each sample of a batch: its function, and the labels that it takes.

No loss reduces over samples. A user's function is given what the model returned, and (m, …) labels as they came.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dugs_stream.core.losses.forms import LabelForm
from dugs_stream.core.samples import Inputs
from dugs_stream.errors import LabelError, ModelError, SampleError

LossFunction = Callable[[Any, Any], Tensor] | Callable[[Any, Any, Any], Tensor]
"""(outputs, labels), or (outputs, labels, inputs), of m samples → loss of each sample, (m,) floating point."""

IGNORED = -100
"""The label of a position from which nothing is to be learnt, as in torch's own losses."""

_WITH_INPUTS = 3


@dataclass(frozen=True)
class Loss:
    """A loss by its name, and the labels that it takes.

    function      (outputs, labels (m, …) or None, inputs) → (m,)
    are_required  every sample must have a label
    predicted     outputs → labels (m,), the model's own prediction; of a loss that takes no others
    """

    name: str
    function: Callable[[Any, Tensor | None, Inputs], Tensor]
    form: LabelForm = LabelForm.OWN
    are_required: bool = False
    predicted: Callable[[Any], Tensor] | None = None

    @property
    def takes_classes(self) -> bool:
        """Whether every sample must have a label that is one class number within the logits."""
        return self.form is LabelForm.CLASS

    @property
    def predicts_labels(self) -> bool:
        """Whether the labels are the model's own prediction."""
        return self.predicted is not None

    @property
    def is_classification(self) -> bool:
        """Whether this loss takes the model's outputs for logits (m, classes), one class a sample."""
        return self.takes_classes or self.predicts_labels

    @property
    def is_own(self) -> bool:
        """Whether it is a user's function."""
        return self.form is LabelForm.OWN

    def labels(self, outputs: Any, given: Tensor | None) -> Tensor | None:
        """The labels (m, …) that the loss uses for these outputs: predicted, or those given."""
        return given if self.predicted is None else self.predicted(outputs)

    def per_sample(self, outputs: Any, labels: Tensor | None, inputs: Inputs, m: int) -> Tensor:
        """The loss of each of the m samples, (m,) floating point. Raises ModelError for anything else."""
        found = self.function(outputs, labels, inputs)
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


def own_loss(function: LossFunction) -> Loss:
    """The loss around a user's function, which is given the inputs too if it asks for three arguments."""
    name = getattr(function, "__qualname__", type(function).__name__)
    if _takes_inputs(function):
        return Loss(name, function)  # type: ignore[arg-type]  # its signature was just looked at
    return Loss(name, lambda outputs, labels, _inputs: function(outputs, labels))  # type: ignore[call-arg]


def _takes_inputs(function: Callable[..., Any]) -> bool:
    """Whether it needs a third argument, or has one of that name."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # of a builtin
        return False
    positional = [
        each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)
    ]
    third = positional[_WITH_INPUTS - 1 : _WITH_INPUTS]
    return bool(third) and (third[0].default is inspect.Parameter.empty or third[0].name == "inputs")


def required(loss: str, labels: Tensor | None, m: int) -> Tensor:
    """The labels (m, …) of m samples. Raises ModelError if there are none."""
    if labels is None:
        raise ModelError(f"the loss {loss} needs a label a sample, found None")
    if labels.shape[:1] != (m,):
        raise SampleError(
            f"labels have shape {tuple(labels.shape)} for {m} samples, expected the samples on the first axis"
        )
    return labels


def checked_classes(labels: Tensor, classes: int) -> Tensor:
    """Labels as int64. Raises LabelError unless each is a class or `IGNORED`: elsewhere it would end a GPU's process."""
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise LabelError(f"labels are {labels.dtype}, expected class numbers (integers)")
    wrong = labels[((labels < 0) & (labels != IGNORED)) | (labels >= classes)]
    if wrong.numel():
        raise LabelError(
            f"label {int(wrong[0])}, expected 0 to {classes - 1}, or {IGNORED} where nothing is to be learnt"
        )
    return labels.to(torch.int64)
