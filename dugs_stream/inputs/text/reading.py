"""The text of a value for people: as it is, or at a path of its JSON, a chat as one line a message. Needs no tokenizer."""

from __future__ import annotations

import json
from typing import Any

from dugs_stream.inputs.json_path import at_path


def text_in(value: bytes, field: str | None = None) -> str | None:
    """The text that the codec would read; None if there is none."""
    if field is None:
        return value.decode("utf-8", "replace")
    try:
        found = at_path(json.loads(value), field)
    except (ValueError, RecursionError):
        return None
    if isinstance(found, list):
        return "\n".join(_line(message) for message in found)
    return found if isinstance(found, str) else None


def _line(message: Any) -> str:
    if not isinstance(message, dict):
        return str(message)
    return f"{message.get('role', '')}: {message.get('content', '')}"
