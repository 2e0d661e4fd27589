"""Losses of a class a sample: given, predicted, or a share of each class; and of several labels at once.

Logits are converted to float64, and no probability is subtracted from 1: if the model is sure of a sample, its gradient
keeps its direction down to a norm of 1e-38, where float32 ends.
"""

from typing import Any

import torch
from torch import Tensor

from dugs_stream.core.losses.loss import required
from dugs_stream.core.losses.outputs import class_logits, logits_of, require_batch_first
from dugs_stream.core.samples import Inputs, batch_size
from dugs_stream.errors import LabelError, ModelError, SampleError

_ROUNDING = 1e-3
"""By how much the shares of a soft label may miss 1: they may come from half precision."""


def cross_entropy(outputs: Any, labels: Tensor | None) -> Tensor:
    """−log softmax(logits)[label], logits (m, classes) → (m,) float64.

    As −log σ(logit of the label − log Σ exp(the other logits)), whose gradient σ(…)·softmax(others) loses no
    digits if the model is sure: softmax − 1 would, from a margin of 36 on even in float64.
    Raises ModelError for outputs that are not logits.
    """
    if labels is None:
        raise ModelError("cross entropy needs a label a sample, found None")
    logits = class_logits(outputs).to(torch.float64)
    own = labels[:, None]
    others = logits.scatter(1, own, -torch.inf).logsumexp(dim=1)  # (m,)
    return -torch.nn.functional.logsigmoid(logits.gather(1, own)[:, 0] - others)


def predicted_labels(outputs: Any) -> Tensor:
    """The class of the largest logit, the first of equals: (m, classes) → (m,) int64."""
    return class_logits(outputs).detach().argmax(dim=1)


def soft_cross_entropy(outputs: Any, labels: Tensor | None, inputs: Inputs) -> Tensor:
    """−Σ share·log softmax(logits), logits and shares (m, classes) → (m,) float64. Shares are not negative and add to 1."""
    require_batch_first(logits_of(outputs), batch_size(inputs))
    logits = class_logits(outputs).to(torch.float64)
    shares = _rows("soft_label", logits, labels)
    if bool((shares < 0).any()) or not bool(((shares.sum(dim=1) - 1).abs() <= _ROUNDING).all()):
        raise LabelError(
            "a soft label is not a share of each class: expected numbers of 0 or more that add to 1"
        )
    losses: Tensor = _SoftCrossEntropy.apply(logits, shares)
    return losses


def binary_cross_entropy(outputs: Any, labels: Tensor | None, inputs: Inputs) -> Tensor:
    """Mean over labels of the binary cross entropy of each: logits and labels in 0…1, (m, labels) → (m,) float64."""
    logits = logits_of(outputs)
    require_batch_first(logits, batch_size(inputs))
    logits = logits.to(torch.float64)
    wanted = _rows("multi_label", logits, labels)
    if not bool(((wanted >= 0) & (wanted <= 1)).all()):
        raise LabelError("a label of several is outside 0 … 1")
    log_sigmoid = torch.nn.functional.logsigmoid
    losses = -wanted * log_sigmoid(logits) - (1 - wanted) * log_sigmoid(-logits)
    return losses.flatten(1).mean(dim=1)


def squared_error(outputs: Any, labels: Tensor | None, inputs: Inputs) -> Tensor:
    """Mean of (output − label)² over a sample's outputs, (m, …) and labels of that shape → (m,) float64."""
    found = logits_of(outputs)
    require_batch_first(found, batch_size(inputs))
    wanted = required("regression", labels, found.shape[0])
    if found.shape == (*wanted.shape, 1):
        found = found[..., 0]
    errors = found.to(torch.float64) - _rows("regression", found, wanted)
    return errors.square().reshape(len(errors), -1).mean(dim=1)


class _SoftCrossEntropy(torch.autograd.Function):
    """The gradient softmax − share as p·(1 − q) − q·(1 − p), where 1 − p and 1 − q are sums of the others."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, shares: Tensor) -> Tensor:
        """Logits and shares (m, classes) → (m,)."""
        ctx.save_for_backward(logits, shares)
        return -(shares * logits.log_softmax(dim=1)).sum(dim=1)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None]:
        """(m, classes) for the outer gradient (m,)."""
        logits, shares = ctx.saved_tensors
        p = logits.softmax(dim=1)
        return (p * _others(shares) - shares * _others(p)) * outer[0][:, None], None


def _others(rows: Tensor) -> Tensor:
    """For each entry of (m, n) the sum of the others in its row, without a subtraction."""
    before = rows.cumsum(dim=1).roll(1, dims=1)
    after = rows.flip(1).cumsum(dim=1).roll(1, dims=1)
    before[:, 0] = after[:, 0] = 0
    return before + after.flip(1)


def _rows(loss: str, outputs: Tensor, labels: Tensor | None) -> Tensor:
    """The labels in float64. Raises SampleError unless they have the shape of the outputs."""
    wanted = required(loss, labels, outputs.shape[0])
    if wanted.shape != outputs.shape:
        raise SampleError(
            f"labels have shape {tuple(wanted.shape)}, the outputs {tuple(outputs.shape)}: the loss {loss} takes a number "
            "for each output"
        )
    return wanted.to(torch.float64)
