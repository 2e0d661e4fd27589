"""Canonical JSON: the one byte form of a value, for everything that is stored or hashed.

The changelog's checksum is chained over these bytes, so the form must not change: keys sorted, no spaces,
numbers as Python's repr writes them (the shortest text that reads back as the same float64).
Pure: no I/O, no clock.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

# `json.dumps` would build one for each event.
_IN_UNICODE, _IN_ASCII = (
    json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=ensure_ascii, allow_nan=False)
    for ensure_ascii in (False, True)
)


def canonical_json(value: Mapping[str, Any], *, ascii_only: bool = False) -> bytes:
    r"""The value as canonical JSON in UTF-8; reading it back and writing it again gives the same bytes.

    ascii_only  write every other character as its JSON escape; half a surrogate pair, which UTF-8 cannot carry,
                is always written so (\ud800)

    Raises ValueError for NaN and infinities, TypeError for a value that JSON does not have.
    """
    text = (_IN_ASCII if ascii_only else _IN_UNICODE).encode(value)
    # "backslashreplace" turns a lone surrogate into exactly the escape that JSON has for it.
    return text.encode("utf-8", "backslashreplace")
