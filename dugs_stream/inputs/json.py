"""JSON codec: an array of numbers, bare or in one field of an object.

Nested arrays are axes and must be regular. true, null and "1" are not numbers and are refused; NaN and Infinity
(which JSON does not have) are refused as not finite.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import torch

from dugs_stream.inputs.codec import Shape, undecodable
from dugs_stream.inputs.numbers import tensor_of
from dugs_stream.inputs.settings import JsonCodecSettings
from dugs_stream.records import Reason, Rejection

_MOST_AXES = 8
"""Deeper than any model's input; it bounds the recursion for every record."""
_SHOWN_KEYS = 5


@dataclass(frozen=True, slots=True)
class JsonCodec:
    """Reads UTF-8 JSON (with or without a byte order mark)."""

    settings: JsonCodecSettings

    def decode(self, value: bytes, expected_shape: Shape | None) -> torch.Tensor | Rejection:  # noqa: ARG002 (the shape shows only after parsing; the decoder checks it)
        """The numbers as a float32 or int64 tensor, or the rejection."""
        document = parse_document(value)
        return document if isinstance(document, Rejection) else self.from_document(document)

    def from_document(self, document: Any) -> torch.Tensor | Rejection:
        """The same from an already parsed document."""
        if isinstance(document, dict):
            field = self.settings.field
            if field not in document:
                return undecodable(
                    f"the object has no field {field!r} (input.codec field); it has {_keys(document)}"
                )
            document = document[field]
        return self._tensor(document)

    def _tensor(self, numbers: Any) -> torch.Tensor | Rejection:
        flat: list[int | float] = []
        try:
            shape = _walk(numbers, flat, depth=0)
            as_floats = self.settings.dtype == "float32" or any(isinstance(number, float) for number in flat)
            array = np.asarray(flat, np.float64 if as_floats else np.int64)
        except _IrregularError as exc:
            return undecodable(str(exc))
        except OverflowError:
            largest = max(flat, key=abs)
            return Rejection(
                Reason.NOT_FINITE,
                f"a number of {len(str(abs(largest)))} digits is beyond {self.settings.dtype}",
            )
        return tensor_of(array.reshape(shape), self.settings.dtype)


def parse_document(value: bytes) -> Any:
    """The parsed JSON, or the Rejection (a JSON document is never one)."""
    try:
        return json.loads(value, parse_constant=_refuse_constant)
    except _ConstantError as exc:
        return Rejection(Reason.NOT_FINITE, f"the JSON holds {exc}, which is not a number")
    except RecursionError:
        return undecodable("the JSON is nested too deeply")
    except ValueError as exc:  # not JSON, not UTF-8, or a number of thousands of digits
        return undecodable(f"not JSON: {exc}")


class _ConstantError(Exception):
    """NaN, Infinity or -Infinity instead of a number."""


def _refuse_constant(name: str) -> NoReturn:
    raise _ConstantError(name)


class _IrregularError(Exception):
    """The document is not a regular array of numbers."""


def _walk(node: Any, flat: list[int | float], depth: int) -> Shape:
    """Append the numbers under `node` to `flat` in order; the shape they have."""
    if type(node) is int or type(node) is float:
        flat.append(node)
        return ()
    if not isinstance(node, list):
        raise _IrregularError(f"found {_quoted(node)}, expected an array of numbers")
    if not node or depth == _MOST_AXES:
        raise _IrregularError("an empty array" if not node else f"more than {_MOST_AXES} axes")
    first = _walk(node[0], flat, depth + 1)
    for other in node[1:]:
        if _walk(other, flat, depth + 1) != first:
            raise _IrregularError(f"rows of different shapes at axis {depth}: a tensor has one shape")
    return (len(node), *first)


def _quoted(node: Any) -> str:
    return f"an object with {_keys(node)}" if isinstance(node, dict) else json.dumps(node)[:40]


def _keys(document: dict[str, Any]) -> str:
    shown = [repr(key[:40]) for key in list(document)[:_SHOWN_KEYS]]
    return ", ".join([*shown, "…"] if len(document) > _SHOWN_KEYS else shown) or "none"
