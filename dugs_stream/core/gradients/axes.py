"""Axes of samples in the calls of a layer: found from two passes that differ by one sample, and used to tell samples apart.

An axis may count samples alone, or samples and positions together (a batch flattened to rows, samples first). What has
the same shape in both passes is shared by all samples: position embeddings, relative biases, rotary tables.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dugs_stream.core.gradients.capture import CallAxes, LayerCall
from dugs_stream.core.gradients.observation import SeenCall


def call_axes(few: SeenCall, more: SeenCall, m: int) -> CallAxes:
    """The axes of a call that was seen among m samples and among m + 1."""
    given = [sample_axis(left, right, m) for left, right in zip(few.given, more.given, strict=False)]
    returned = [sample_axis(left, right, m) for left, right in zip(few.outputs, more.outputs, strict=False)]
    return CallAxes(
        tuple(axis for axis, _ in given),
        tuple(axis for axis, _ in returned),
        tuple(rows for _, rows in given),
        tuple(rows for _, rows in returned),
        tuple(
            left is not None and left == right for left, right in zip(few.outputs, more.outputs, strict=False)
        ),
    )


def sample_axis(few: torch.Size | None, more: torch.Size | None, m: int) -> tuple[int | None, int]:
    """The one axis that grows with the samples, all others being equal, and how many of its rows are a sample's."""
    if few is None or more is None or len(few) != len(more):
        return None, 1
    changed = [axis for axis, (left, right) in enumerate(zip(few, more, strict=True)) if left != right]
    if len(changed) != 1:
        return None, 1
    rows = more[changed[0]] - few[changed[0]]
    if rows < 1 or few[changed[0]] != m * rows:
        return None, 1
    return changed[0], rows


def samples_apart(call: LayerCall, axes: CallAxes) -> LayerCall:
    """The call with each axis of samples and positions in two: (…, m · r, …) → (…, m, r, …)."""
    if all(rows == 1 for rows in (*axes.input_rows, *axes.output_rows)):
        return call
    inputs = call.inputs
    if len(inputs) == len(axes.inputs):
        inputs = _apart(inputs, axes.inputs, axes.input_rows)
    return replace(
        call,
        given=_apart(call.given, axes.inputs, axes.input_rows),
        inputs=inputs,
        outputs=_apart(call.outputs, axes.outputs, axes.output_rows),
        gradients=_apart(call.gradients, axes.outputs, axes.output_rows),
    )


def _apart(leaves: list[Any], axes: tuple[int | None, ...], rows: tuple[int, ...]) -> list[Any]:
    return [
        leaf.reshape(*leaf.shape[:axis], -1, each, *leaf.shape[axis + 1 :])
        if isinstance(leaf, Tensor) and axis is not None and each > 1
        else leaf
        for leaf, axis, each in zip(leaves, axes, rows, strict=True)
    ]
