"""Translation of pydantic's errors into problems for the person who wrote the configuration.

Each problem says where, what was found, what was expected and what to do. A secret's value is never quoted, nor is
the value of an unknown key, which may be a misspelt secret. Pure.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic_core import ErrorDetails

from dugs_stream.config.fields import KeyPath, blocks_at, dotted, every_key, is_secret
from dugs_stream.config.sources import Gathered
from dugs_stream.errors import Problem
from dugs_stream.inputs.settings import CODEC_NAMES
from dugs_stream.log.kafka.settings import KEYS_OWNED_BY_EXACTLY_ONCE
from dugs_stream.setting_types import ExpectedError

_LONGEST_QUOTE = 60

_EXPECTED = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "dict_type": "a mapping of names to values",
    "finite_number": "a finite number",
    "float_parsing": "a number",
    "float_type": "a number",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "int_from_float": "a whole number",
    "invalid-json-value": "text, numbers, true, false, null, lists or mappings",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
    "missing": "a longer list",
    "model_type": "a block of keys (key: value)",
    "path_type": "a path",
    "string_too_long": "text of at most {max_length} characters",
    "string_too_short": "text of at least {min_length} character(s)",
    "string_type": "text",
    "too_long": "a list of at most {max_length}",
    "too_short": "a list of at least {min_length}",
    "tuple_type": "a list",
}
"""pydantic's types of errors → what was expected, with the facts of the error filled in."""


def tree_path(error: ErrorDetails) -> KeyPath:
    """The keys that lead to the error in the tree as written (pydantic adds the codec's kind to them)."""
    path = error["loc"]
    if path[:2] == ("input", "codec") and len(path) > 2 and path[2] in {*CODEC_NAMES, "custom"}:  # noqa: PLR2004 (what is below the codec)
        return (*path[:2], *path[3:])
    return path


def problem_of(error: ErrorDetails, gathered: Gathered) -> Problem:
    """The problem behind one of pydantic's errors."""
    path = tree_path(error)
    place = gathered.place(path)
    if error["type"] == "extra_forbidden":
        return _unknown_key(path, place, gathered)
    cause = error.get("ctx", {}).get("error")
    if cause is not None and not isinstance(cause, ExpectedError):
        return Problem(place, f"{cause}.")
    if error["type"] == "missing" and isinstance(path[-1], str):
        return Problem(place, f"the key {path[-1]} is missing.", f"Write {dotted(path)}: …")
    found = "a value (not shown)" if is_secret(gathered.root, path) else _quoted(error["input"])
    expected = str(cause) if cause is not None else _expected(error)
    return Problem(place, f"found {found}, expected {expected}.", _hint(error))


def _unknown_key(path: KeyPath, place: str, gathered: Gathered) -> Problem:
    key, block = str(path[-1]), path[:-1]
    if block == ("log", "kafka") and key in KEYS_OWNED_BY_EXACTLY_ONCE:
        why = KEYS_OWNED_BY_EXACTLY_ONCE[key]
        return Problem(
            place, f'"{key}" cannot be set: {why}, or records would be lost or duplicated.', "Remove the key."
        )
    known = sorted({name for owner in blocks_at(gathered.root, block) for name in owner.model_fields})
    message = f'unknown key "{key}"' + (f" in {dotted(block)}." if block else ".")
    near = difflib.get_close_matches(key, known, n=1)
    if near:
        return Problem(place, message, f'Did you mean "{near[0]}"?')
    elsewhere = [dotted(other) for other in every_key(gathered.root) if other[-1] == key]
    if elsewhere:
        return Problem(place, message, f"Did you mean {' or '.join(elsewhere)}?")
    return Problem(place, message, f"Known here: {', '.join(known)}.")


def _expected(error: ErrorDetails) -> str:
    form = _EXPECTED.get(error["type"])
    return form.format(**error.get("ctx", {})) if form else error["msg"]


def _hint(error: ErrorDetails) -> str:
    """The nearest of the allowed words, if the setting takes one of a few words."""
    if error["type"] != "literal_error" or not isinstance(error["input"], str):
        return ""
    words = [word.strip(" '") for word in error["ctx"]["expected"].replace(" or ", ",").split(",")]
    near = difflib.get_close_matches(error["input"], words, n=1)
    return f'Did you mean "{near[0]}"?' if near else ""


def _quoted(value: Any) -> str:
    """The value in YAML, shortened; of a block only its keys, since it may contain a secret."""
    if isinstance(value, Mapping):
        return f"a block with {_listed(value)}"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST_QUOTE else f"{text[: _LONGEST_QUOTE - 1]}…"


def _listed(names: Iterable[Any]) -> str:
    return ", ".join(map(str, names)) or "no keys"
