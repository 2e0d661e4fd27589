"""Logits among the outputs of a model: a tensor, a tuple, a mapping, or an object with `logits`."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from dugs_stream.errors import ModelError, SampleError


def logits_of(outputs: Any) -> Tensor:
    """The outputs' `logits`, by attribute or key, else their first floating-point tensor. Raises SampleError if none."""
    if isinstance(outputs, Tensor):
        return outputs
    named = outputs.get("logits") if isinstance(outputs, Mapping) else getattr(outputs, "logits", None)
    if isinstance(named, Tensor):
        return named
    values = (
        outputs.values()
        if isinstance(outputs, Mapping)
        else outputs
        if isinstance(outputs, tuple | list)
        else ()
    )
    for value in values:
        if isinstance(value, Tensor) and value.is_floating_point():
            return value
    raise SampleError(
        f"the model returned {type(outputs).__name__} without logits, expected a tensor, or a tuple, a mapping or an object "
        "with one; wrap the model, or give a loss function (outputs, labels) -> (n,)"
    )


def class_logits(outputs: Any) -> Tensor:
    """The logits (m, classes) of a classification loss. Raises SampleError or ModelError for other shapes."""
    logits = logits_of(outputs)
    if logits.dim() != 2:  # noqa: PLR2004 -- samples by classes
        raise SampleError(
            f"the model returned shape {tuple(logits.shape)}, expected logits (samples, classes) for a classification loss; "
            "name a loss over tokens or pixels, wrap the model, or give a loss function (outputs, labels) -> (n,)"
        )
    if logits.shape[1] < 2:  # noqa: PLR2004 -- one class is always right
        raise ModelError(
            "the model returned logits of a single class: there is nothing to classify, and no gradient of it"
        )
    return logits


def require_batch_first(logits: Tensor, m: int) -> None:
    """Raise ModelError unless the outputs of m samples have the samples on their first axis."""
    if logits.dim() and logits.shape[0] == m:
        return
    elsewhere = [axis for axis, length in enumerate(logits.shape) if length == m]
    where = f" (axis {elsewhere[0]} is as long)" if elsewhere else ""
    raise ModelError(
        f"the model returned shape {tuple(logits.shape)} for {m} samples, expected the samples on the first axis{where}: "
        "turn the outputs round (batch_first=True, or movedim), or give a loss function (outputs, labels) -> (n,)"
    )
