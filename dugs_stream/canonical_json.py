"""What are the bytes of a JSON value? One canonical form, for everything that is stored or summed up.

The changelog's checksum is chained over these bytes, so the form must not change: keys sorted, no spaces,
UTF-8, numbers as Python's repr writes them (the shortest text that reads back as the same float64).
Pure: no I/O, no clock.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def canonical_json(value: Mapping[str, Any]) -> bytes:
    r"""The value as canonical JSON; reading it back and writing it again gives the same bytes.

    Half a surrogate pair, which UTF-8 cannot carry, is written as its JSON escape (\ud800).
    Raises ValueError for NaN and infinities, TypeError for what JSON does not have.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    # "backslashreplace" turns a lone surrogate into exactly the escape that JSON has for it.
    return text.encode("utf-8", "backslashreplace")
