"""Likely causes of labels that are no class: binary encodings of headers, and what is written around a text.

Clients of other systems write headers in encodings of their own; a consumer gets the bytes and no word about them.
Sources: AMQP 1.0 part 1 (types), Java Object Serialization §6.4.2. Pure.
"""

from __future__ import annotations

import json
import struct
from typing import Any

_AMQP_TEXTS = {0xA1: ">B", 0xB1: ">I", 0xA3: ">B", 0xB3: ">I"}
"""Constructors of strings and symbols, with the form of their length."""
_AMQP_NUMBERS = {
    0x50: ">B", 0x51: ">b", 0x60: ">H", 0x61: ">h", 0x52: ">B", 0x54: ">b", 0x70: ">I", 0x71: ">i", 0x53: ">B", 0x55: ">b",
    0x80: ">Q", 0x81: ">q",
}  # fmt: skip
_SHOWN = 60
_MOST_CLASSES = 2**24
"""No model has more: a larger number is a guess at bytes that mean something else."""
_JAVA_OBJECT = b"\xac\xed\x00\x05"


def likely_cause(found: Any) -> str:
    """What these bytes look like, with the value behind them and the way out; empty if they look like nothing known."""
    if isinstance(found, str):
        return _quoted(found)
    if not isinstance(found, bytes):
        return ""
    for look in (_amqp, _java_object, _utf_16, _big_endian, _quoted_bytes):
        cause = look(found)
        if cause:
            return cause
    return ""


def _amqp(value: bytes) -> str:
    behind: str | int | None = None
    kind, rest = value[:1], value[1:]
    if kind and kind[0] in _AMQP_TEXTS:
        form = _AMQP_TEXTS[kind[0]]
        size = struct.calcsize(form)
        if len(rest) >= size and struct.unpack_from(form, rest)[0] == len(rest) - size:
            behind = _utf_8(rest[size:])
    elif kind and kind[0] in _AMQP_NUMBERS and len(rest) == struct.calcsize(_AMQP_NUMBERS[kind[0]]):
        # Plain letters, such as "p7", have this form too.
        behind = None if _is_plain(value) else struct.unpack(_AMQP_NUMBERS[kind[0]], rest)[0]
    if behind is None:
        return ""
    return f"AMQP-encoded, as Azure Event Hubs writes headers: {_short(behind)} with a type in front; send it as plain text"


def _java_object(value: bytes) -> str:
    if not value.startswith(_JAVA_OBJECT):
        return ""
    return "a serialised Java object; send it as plain text"


def _utf_16(value: bytes) -> str:
    is_marked = value[:2] in {b"\xff\xfe", b"\xfe\xff"} and len(value) > 2  # noqa: PLR2004 (the mark itself)
    for order, zeros in (("utf-16-le", value[1::2]), ("utf-16-be", value[::2])):
        if is_marked or (len(value) >= 4 and len(value) % 2 == 0 and not any(zeros)):  # noqa: PLR2004 (two letters)
            text = _decoded(value, "utf-16" if is_marked else order)
            if text and text.isprintable():
                return f"{_short(text)} in UTF-16; send it as UTF-8"
    return ""


def _big_endian(value: bytes) -> str:
    form = {2: ">h", 4: ">i", 8: ">q"}.get(len(value))
    if form is None or _is_plain(value):
        return ""
    (number,) = struct.unpack(form, value)
    if not 0 <= number < _MOST_CLASSES:
        return ""
    return (
        f"{number} as a binary number of {len(value)} bytes, as Java's serializers write it; send it as text"
    )


def _quoted_bytes(value: bytes) -> str:
    text = _utf_8(value)
    return "" if text is None else _quoted(text)


def _quoted(text: str) -> str:
    try:
        inner = json.loads(text) if text[:1] == '"' else None
    except ValueError:
        inner = None
    return f"{_short(inner)} within quotes of JSON; send the text alone" if isinstance(inner, str) else ""


def _is_plain(value: bytes) -> bool:
    """Whether these are letters that one can see."""
    text = _utf_8(value)
    return text is not None and text.strip().isprintable()


def _short(value: str | int) -> str:
    return repr(value)[:_SHOWN]


def _utf_8(value: bytes) -> str | None:
    return _decoded(value, "utf-8")


def _decoded(value: bytes, encoding: str) -> str | None:
    try:
        return value.decode(encoding)
    except UnicodeDecodeError:
        return None
