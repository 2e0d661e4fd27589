"""JSON Lines: one JSON value a line, plain or gzip-compressed, read a line at a time.

Blank lines are passed over. A line is the record's value as it stands; it is parsed here only for fields that are read
from it. https://jsonlines.org
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from dugs_stream.errors import Problem
from dugs_stream.inputs.rows.fields import (
    FieldError,
    NoColumnError,
    Row,
    RowPlan,
    ValueForm,
    row_of,
    too_large,
)

_OTHER_FIELDS = 2**20
"""Bytes of a line that may lie beside its value."""
_CHUNK = 2**20


def read_json_lines(path: Path, plan: RowPlan) -> Iterator[Row | Problem]:
    """The rows in order; a Problem for each line that cannot be used, and for a file that breaks off. Never raises."""
    number = 0
    try:
        with _open(path) as file:
            for number, line in enumerate(_lines(file, _longest(plan)), start=1):
                if isinstance(line, int):
                    yield too_large(f"'{path}', line {number}", line, plan)
                elif line.strip():
                    yield _row(path, plan, number, line)
    except NoColumnError as exc:
        yield Problem(f"'{path}'", f"{exc}.")
    except (OSError, EOFError, zlib.error) as exc:
        yield Problem(
            f"'{path}'", f"damaged or cut short after line {number}: {exc}.", "The lines before it were read."
        )
    else:
        if number == 0:
            yield Problem(f"'{path}'", "an empty file: it has no lines.", "Leave it out.")


def _open(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path)) if path.suffix.lower() == ".gz" else path.open("rb")


def _longest(plan: RowPlan) -> int:
    """Bytes of the longest line that is read: Base64 is four thirds of what it stands for, escaped text up to twice."""
    return _OTHER_FIELDS + (1 if plan.fields.column is None else 2) * plan.max_bytes


def _lines(file: IO[bytes], most: int) -> Iterator[bytes | int]:
    """Each line without its end; one longer than `most` bytes is its length, so that memory stays bounded."""
    while line := file.readline(most + 2):  # a line of `most` bytes, and its end
        if line.endswith(b"\n") or len(line) < most + 2:
            yield line.rstrip(b"\r\n")
            continue
        length = len(line)
        while rest := file.readline(_CHUNK):
            length += len(rest)
            if rest.endswith(b"\n"):
                break
        yield length


def _row(path: Path, plan: RowPlan, number: int, line: bytes) -> Row | Problem:
    fields, place = plan.fields, f":{number}"
    try:
        if plan.form is ValueForm.JSON and not fields.are_named and fields.label_header is None:
            return Row(place, line, None, None)
        return row_of(plan, place, json.loads(line), line)
    except NoColumnError:
        raise
    except FieldError as exc:
        return Problem(f"'{path}', line {number}", f"{exc}.")
    except (ValueError, RecursionError) as exc:
        if plan.form is ValueForm.JSON and fields.column is None:
            return Row(place, line, None, None)  # the codec says what is wrong with it
        return Problem(f"'{path}', line {number}", f"not JSON: {exc}.")
