"""Types of settings: the frozen block, byte sizes, numbers, import strings, topic names.

Settings are data: nothing here opens a file, imports a module or looks at the environment.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema


class ExpectedError(ValueError):
    """A value has the wrong form; the text completes a sentence that begins with "expected"."""


class Block(BaseModel):
    """One block of the YAML: frozen, unknown keys refused, each field described by the sentence under it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


# Powers of two, as Kafka's documentation means them, and powers of ten.
_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_BYTE_SIZE = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?)\s*(?P<unit>[A-Za-z]*)")
_EXPECTED_BYTES = "a number of bytes of at least 1, such as 1048576, 1MiB or 64MB"


def parse_byte_size(value: object) -> int:
    """Bytes from a whole number or from text such as 64MiB (2^20) or 1MB (10^6).

    Raises ExpectedError for anything else, for less than one byte and for a fraction of a byte.
    """
    match = _BYTE_SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is not None and match["unit"].lower() in _UNITS:
        number = float(match["number"]) * _UNITS[match["unit"].lower()]
        size = int(number) if number.is_integer() else 0
    else:
        size = value if isinstance(value, int) and not isinstance(value, bool) else 0
    if size < 1:
        raise ExpectedError(_EXPECTED_BYTES)
    return size


ByteSize = Annotated[
    int,
    BeforeValidator(parse_byte_size),
    WithJsonSchema(
        {
            "oneOf": [
                {"type": "integer", "minimum": 1},
                {"type": "string", "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*([kKmMgG][iI]?)?[bB]?\s*$"},
            ]
        }
    ),
]


def _number(value: object) -> object:
    # YAML 1.1 reads 1e-3 as text (it wants 1.0e-3); the number is meant.
    if isinstance(value, str) and re.fullmatch(r"[-+]?[0-9]+[eE][-+]?[0-9]+", value):
        return float(value)
    return value


Whole = Annotated[int, Field(strict=True)]
"""A whole number; true, "5" and 5.0 are not."""

Number = Annotated[float, Field(strict=True, allow_inf_nan=False), BeforeValidator(_number)]
"""A finite number; true and "0.3" are not, 1e-3 is."""


_IMPORT_STRING = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def check_import_string(text: str) -> str:
    """The text itself if it has the form package.module:function; ExpectedError otherwise."""
    if not _IMPORT_STRING.fullmatch(text):
        raise ExpectedError("package.module:function, with one colon between module and function")
    return text


ImportString = Annotated[
    str,
    AfterValidator(check_import_string),
    WithJsonSchema({"type": "string", "pattern": r"^[^\s:]+:[^\s:]+$"}),
]


def check_topic_name(text: Any) -> Any:
    """The text itself if a topic may be called so; ExpectedError otherwise. What is not text passes."""
    # Kafka's rule; the embedded log follows it too, so that a configuration can move between the two.
    if isinstance(text, str) and (not re.fullmatch(r"[a-zA-Z0-9._-]{1,249}", text) or text in {".", ".."}):
        raise ExpectedError("a topic name: 1 to 249 letters, digits, dots, underscores or hyphens")
    return text


TopicName = Annotated[str, BeforeValidator(check_topic_name)]
