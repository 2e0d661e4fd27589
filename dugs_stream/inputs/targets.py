"""Targets: labels that are numbers, alone or in regular lists, for a loss of one's own.

Their dtype is the setting's, never the record's: a label must not change with what stands beside it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from dugs_stream.inputs.label_causes import likely_cause
from dugs_stream.inputs.numbers import IrregularError, array_of, tensor_of
from dugs_stream.records import Reason, Rejection

_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Target:
    """Numbers as a loss takes them; `number` and `name` are those of a class, which this is not."""

    tensor: torch.Tensor
    number: None = None
    name: None = None


def target_of(found: Any, dtype: Literal["float32", "int64"]) -> Target | Rejection:
    """The target behind bytes or text (as JSON: 0.5, -3, [1, 2]), parsed JSON, or an array of NumPy or PyTorch."""
    try:
        array = array_of(_parsed(found), dtype)
    except (IrregularError, ValueError):
        return _refused(Reason.LABEL_UNKNOWN, found, "a number, or a list of them that is regular", dtype)
    except OverflowError:
        return _refused(Reason.LABEL_OUT_OF_RANGE, found, f"numbers within {dtype}", dtype)
    tensor = tensor_of(array, dtype)
    if isinstance(tensor, Rejection):
        return _refused(Reason.LABEL_UNKNOWN, found, "whole numbers", dtype)
    if not bool(torch.isfinite(tensor).all()):
        return _refused(Reason.LABEL_OUT_OF_RANGE, found, "finite numbers", dtype)
    return Target(tensor)


def _parsed(found: Any) -> Any:
    if isinstance(found, torch.Tensor):
        found = found.detach().cpu().numpy()
    if isinstance(found, np.ndarray | np.generic):
        return found.tolist()
    if isinstance(found, str | bytes):
        try:
            return json.loads(found)
        except RecursionError as exc:
            raise ValueError from exc
    return _lists(found)


def _lists(node: Any) -> Any:
    """Tuples as lists, as JSON would have them."""
    return [_lists(each) for each in node] if isinstance(node, list | tuple) else node


def _refused(reason: Reason, found: Any, expected: str, dtype: str) -> Rejection:
    cause = likely_cause(found)
    what = f"label {repr(found)[:_SHOWN]}{f' ({cause})' if cause else ''}"
    return Rejection(reason, f"{what}, expected {expected} (input.label_type: {dtype})")
