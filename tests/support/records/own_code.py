"""A codec and a loss as users write them, for configurations: `tests.support.records.own_code:labelled`."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor


def labelled(value: bytes) -> Any:
    """`{"x": […], "y": …}` with its label, without one, or a record that holds no sample: `{"gone": true}`."""
    document = json.loads(value)
    if document.get("gone"):
        return "skip"
    tensor = torch.tensor(document["x"], dtype=torch.float32)
    return (tensor, document["y"]) if "y" in document else tensor


def squared_error(outputs: Tensor, targets: Tensor | None) -> Tensor:
    """Mean squared distance of the first outputs to a target (m,) or (m, d) → (m,)."""
    assert targets is not None
    wanted = targets.reshape(targets.shape[0], -1).to(outputs.dtype)
    return ((outputs[:, : wanted.shape[1]] - wanted) ** 2).mean(dim=1)
