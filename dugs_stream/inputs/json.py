"""JSON codec: an array of numbers, bare or in one field of an object.

Nested arrays are axes and must be regular. true, null and "1" are not numbers and are refused; NaN and Infinity
(which JSON does not have) are refused as not finite.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any, NoReturn

import torch

from dugs_stream.inputs.codec import Shape, undecodable
from dugs_stream.inputs.envelopes import frame_of
from dugs_stream.inputs.json_path import at_path
from dugs_stream.inputs.numbers import IrregularError, array_of, keys_of, tensor_of
from dugs_stream.inputs.settings import JsonCodecSettings
from dugs_stream.records import Reason, Rejection


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
            found = at_path(document, field)
            if found is None and field not in document:
                return undecodable(
                    f"the object has no field {field!r} (input.codec field); it has {keys_of(document)}"
                )
            document = found
        return self._tensor(document)

    def _tensor(self, numbers: Any) -> torch.Tensor | Rejection:
        try:
            array = array_of(numbers, self.settings.dtype)
        except IrregularError as exc:
            return undecodable(str(exc))
        except OverflowError as exc:
            return Rejection(
                Reason.NOT_FINITE, f"a number of {exc.args[0]} digits is beyond {self.settings.dtype}"
            )
        return tensor_of(array, self.settings.dtype)


def parse_document(value: bytes) -> Any:
    """The parsed JSON, or the Rejection (a JSON document is never one)."""
    try:
        return json.loads(value, parse_constant=_refuse_constant)
    except _ConstantError as exc:
        return Rejection(Reason.NOT_FINITE, f"the JSON holds {exc}, which is not a number")
    except RecursionError:
        return undecodable("the JSON is nested too deeply")
    except ValueError as exc:  # not JSON, not UTF-8, or more digits than Python makes a number of
        if not isinstance(exc, json.JSONDecodeError | UnicodeDecodeError):
            most = sys.get_int_max_str_digits()
            return Rejection(Reason.NOT_FINITE, f"the JSON holds a number of more than {most} digits")
        schema = frame_of(value)
        if schema is not None:
            return undecodable(
                f"not JSON: it begins with a frame of a schema registry (0, schema id {schema}); "
                "input.envelope: schema_registry takes it off"
            )
        return undecodable(f"not JSON: {exc}")


class _ConstantError(Exception):
    """NaN, Infinity or -Infinity instead of a number."""


def _refuse_constant(name: str) -> NoReturn:
    raise _ConstantError(name)
