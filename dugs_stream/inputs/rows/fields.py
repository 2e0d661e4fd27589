"""Fields of rows: which of them is the sample's value, its label and its key, and how each becomes bytes.

A path leads to a field: `text`, `image.bytes`, `json.label`. In JSON Lines it leads into the line's object, in Parquet
its first step is a column, and in a tar shard the ending of a member (what follows is a path into that member's JSON).
Pure.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from dugs_stream.errors import Problem
from dugs_stream.inputs.json_path import at_path

_SHOWN = 8
"""Names of fields in a message."""


class ValueForm(StrEnum):
    """What a codec's values are."""

    BYTES = "bytes"
    """Of a format of their own (a picture, a .npy file): text in a field is Base64."""
    JSON = "json"
    """JSON, or what a function of the user's makes of it: a whole row will do."""
    TEXT = "text"
    """Plain text, so that one field has to be named."""


@dataclass(frozen=True, slots=True)
class RowFields:
    """Paths of the fields that are read; None for what was not named.

    column           the field that is the value; None: the whole row, or the only field that the codec can read
    label            the field that is the label
    key              the field that is the record's key; None: the file's key and the row's place in it
    label_header     the header that `input.label` reads, which is also the label's field if none is named; None if it reads
                     no header
    """

    column: str | None = None
    label: str | None = None
    key: str | None = None
    label_header: str | None = None

    @property
    def are_named(self) -> bool:
        """Whether the user named any field."""
        return (self.column or self.label or self.key) is not None


@dataclass(frozen=True, slots=True)
class RowPlan:
    """How the rows of a file are read: the fields, and what the codec takes.

    codec      its name in the settings, for messages
    suffixes   endings (".jpg") of the files that it reads; None takes any
    max_bytes  larger values are not read
    """

    fields: RowFields
    codec: str
    form: ValueForm
    suffixes: frozenset[str] | None
    max_bytes: int


class Row(NamedTuple):
    """One sample's bytes; `place` ends its key: ":17" for a line, "/cat/1" for a sample of a shard."""

    place: str
    value: bytes | None
    label: bytes | None
    key: bytes | None


class FieldError(Exception):
    """A row has no such field, or it holds what the codec cannot read; the text says which."""


class NoColumnError(FieldError):
    """No row of the file can be used: one field has to be named."""


def row_of(plan: RowPlan, place: str, document: Any, whole: bytes | None) -> Row:
    """The row behind a parsed document. `whole` is its JSON as it stands in the file, None if it is to be written.

    Raises FieldError; NoColumnError if that goes for every row.
    """
    fields = plan.fields
    if fields.column is not None:
        value = as_value(found_at(document, fields.column), plan.form, fields.column)
    elif plan.form is ValueForm.JSON:
        value = as_json(document) if whole is None else whole
    else:
        raise no_column(plan, names_of(document))
    return Row(place, value, label_of(plan, document), _key_of(plan, document))


def label_of(plan: RowPlan, document: Any) -> bytes | None:
    """The label's bytes, for a header; None if the field is null, or was not named and is not there."""
    fields = plan.fields
    if fields.label is not None:
        return as_header(found_at(document, fields.label))
    return None if fields.label_header is None else as_header(at_path(document, fields.label_header))


def _key_of(plan: RowPlan, document: Any) -> bytes | None:
    return None if plan.fields.key is None else as_header(found_at(document, plan.fields.key))


def found_at(document: Any, path: str) -> Any:
    """What stands at the path, which may be null. Raises FieldError if there is no such field."""
    found = at_path(document, path)
    if found is None and not _is_there(document, path):
        raise FieldError(f"no field {path!r}; {_what_there_is(document, path)}")
    return found


def _what_there_is(document: Any, path: str) -> str:
    """`image has 'bytes', 'path'`: the names where the path leaves what is there; of the row, "it", if at its first step."""
    at, holder = "it", document
    for place in range(1, path.count(".") + 1):
        inner = ".".join(path.split(".")[:place])
        found = at_path(document, inner)
        if not isinstance(found, Mapping):
            break
        at, holder = inner, found
    return f"{at} has {names_of(holder)}"


def _is_there(document: Any, path: str) -> bool:
    if isinstance(document, Mapping) and path in document:
        return True
    parent, _, last = path.rpartition(".")
    holder = at_path(document, parent) if parent else document
    return isinstance(holder, Mapping) and last in holder


def no_column(plan: RowPlan, names: str) -> NoColumnError:
    """The error of a file in which one field has to be named and none was."""
    return NoColumnError(
        f"the codec {plan.codec} does not read a whole row; name the field that holds the sample (--column); it has {names}"
    )


def names_of(document: Any) -> str:
    """The names of a row's first fields, for a message."""
    return listed(document) if isinstance(document, Mapping) else "no fields"


def listed(names: Iterable[str]) -> str:
    """The first few names, quoted."""
    quoted = [repr(str(name)[:40]) for name in names]
    return ", ".join([*quoted[:_SHOWN], "…"] if len(quoted) > _SHOWN else quoted) or "no fields"


def as_value(found: Any, form: ValueForm, path: str) -> bytes | None:
    """A field as a record's value: bytes as they are, text as UTF-8 (Base64 for a codec of bytes), the rest as JSON.

    The form that Hugging Face's data sets give a picture, {bytes, path}, is its bytes. Raises FieldError.
    """
    if isinstance(found, Mapping) and isinstance(found.get("bytes"), bytes):
        found = found["bytes"]
    if found is None or isinstance(found, bytes):
        return found
    if form is not ValueForm.BYTES:
        return as_text(found)
    if not isinstance(found, str):
        raise FieldError(f"the field {path!r} holds {_kind(found)}, expected bytes, or text in Base64")
    try:
        return base64.b64decode(found, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise FieldError(f"the field {path!r} is not Base64: {exc}") from exc


def _kind(found: Any) -> str:
    return "an object" if isinstance(found, Mapping) else f"a {type(found).__name__}"


def as_header(found: Any) -> bytes | None:
    """A field as a label or key; None for null."""
    return found if found is None or isinstance(found, bytes) else as_text(found)


def as_text(found: Any) -> bytes:
    """Text as UTF-8, dates and decimals as they are written, anything else as JSON."""
    if not isinstance(found, bool | int | float | list | dict):
        found = str(found)
    return found.encode("utf-8", "surrogatepass") if isinstance(found, str) else as_json(found)


def as_json(document: Any) -> bytes:
    """UTF-8 JSON; bytes in it become Base64, dates and decimals text."""
    return json.dumps(document, ensure_ascii=False, default=_plain).encode("utf-8", "surrogatepass")


def _plain(found: Any) -> str:
    return base64.b64encode(found).decode() if isinstance(found, bytes) else str(found)


def too_large(place: str, size: int, plan: RowPlan) -> Problem:
    """The problem of a row that is not read for its size."""
    return Problem(
        place,
        f"{size} bytes, at most {plan.max_bytes} are read (input.max_record_bytes).",
        "Raise it, or leave it out.",
    )
