"""Parquet: the rows of a table, read a few at a time with the columns that are asked for, by pyarrow.

Memory holds some rows and one column's page each, not a row group. Without a named column the value is the whole row as a
JSON object, or for a codec of bytes the only column that holds bytes. https://parquet.apache.org
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dugs_stream.errors import ConfigurationError, Problem
from dugs_stream.inputs.rows.fields import (
    FieldError,
    Row,
    RowFields,
    RowPlan,
    ValueForm,
    listed,
    no_column,
    row_of,
)

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = 32
"""Decoded at a time: pictures of a megabyte each stay within tens of megabytes."""
_NO_PYTHON_VALUE = (ValueError, OverflowError)
"""Raised for text that is not UTF-8 and dates that Python does not have."""
_BUFFER_BYTES = 2**20
"""Read of a column at a time; pyarrow's own default reads the column's whole row group at once."""


def require_pyarrow() -> None:
    """Raises ConfigurationError if pyarrow is not installed."""
    try:
        import pyarrow.parquet  # noqa: F401, PLC0415  (an optional dependency)
    except ImportError as exc:
        problem = Problem(
            "Parquet",
            f"pyarrow cannot be imported: {exc}.",
            "In a clone of the repository: .venv/bin/pip install -e '.[parquet]' -c constraints.txt",
        )
        raise ConfigurationError([problem]) from exc


def read_parquet(path: Path, plan: RowPlan) -> Iterator[Row | Problem]:
    """The rows in order; a Problem for each that cannot be used, and for a file that breaks off. Never raises."""
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    number = 0
    try:
        with pq.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False) as file:
            plan = _with_column(plan, file.schema_arrow)
            columns = _columns(plan.fields, file.schema_arrow)
            for batch in file.iter_batches(_ROWS, columns=columns):
                for document in _documents(batch):
                    number += 1
                    yield _row(path, plan, number, document)
    except FieldError as exc:
        yield Problem(f"'{path}'", f"{exc}.")
        return
    except (pa.ArrowException, OSError, *_NO_PYTHON_VALUE) as exc:
        reason = str(exc).partition("\n")[0]
        yield Problem(
            f"'{path}'",
            f"damaged or not Parquet, after row {number}: {reason}.",
            "The rows before it were read.",
        )
        return
    if number == 0:
        yield Problem(f"'{path}'", "an empty table: it has no rows.", "Leave it out.")


def count_rows(path: Path) -> int | None:
    """How many rows the file says it has; None if it cannot be read."""
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowException, OSError):
        return None


def _documents(batch: pa.RecordBatch) -> Sequence[Any]:
    """Each row as a dictionary, or the error of a row that Python has no value for."""
    try:
        return list(batch.to_pylist())
    except _NO_PYTHON_VALUE:
        return [_document(batch.slice(place, 1)) for place in range(batch.num_rows)]


def _document(row: pa.RecordBatch) -> Any:
    try:
        (document,) = row.to_pylist()
    except _NO_PYTHON_VALUE as exc:
        return exc
    return document


def _with_column(plan: RowPlan, schema: pa.Schema) -> RowPlan:
    """The plan with the only column of bytes, if the codec reads bytes and none was named. Raises FieldError."""
    if plan.fields.column is not None or plan.form is ValueForm.JSON:
        return plan
    found = (
        [field.name for field in schema if _holds_bytes(field.type)] if plan.form is ValueForm.BYTES else []
    )
    if len(found) != 1:
        raise no_column(plan, listed(schema.names))
    fields = RowFields(found[0], plan.fields.label, plan.fields.key, plan.fields.label_header)
    return RowPlan(fields, plan.codec, plan.form, plan.suffixes, plan.max_bytes)


def _holds_bytes(kind: Any) -> bool:
    """Binary, or the {bytes, path} that Hugging Face's data sets write."""
    import pyarrow as pa  # noqa: PLC0415

    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _holds_bytes(field.type) for field in kind)
    return bool(
        pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
    )


def _columns(fields: RowFields, schema: pa.Schema) -> Sequence[str] | None:
    """The columns to read, None for all. Raises FieldError for a path that no column begins."""
    named = [path for path in (fields.column, fields.label, fields.key) if path is not None]
    missing = [path for path in named if not _is_path(path, schema)]
    if missing:
        raise FieldError(f"no column {', '.join(map(repr, missing))}; it has {listed(schema.names)}")
    if fields.column is None:
        return None
    implied = fields.label_header
    if fields.label is None and implied is not None and _is_path(implied, schema):
        named.append(implied)
    return sorted({path if path in schema.names else path.partition(".")[0] for path in named})


def _is_path(path: str, schema: pa.Schema) -> bool:
    return path in schema.names or path.partition(".")[0] in schema.names


def _row(path: Path, plan: RowPlan, number: int, document: Any) -> Row | Problem:
    if isinstance(document, Exception):
        return Problem(f"'{path}', row {number}", f"{document}.")
    try:
        return row_of(plan, f":{number}", document, None)
    except FieldError as exc:
        return Problem(f"'{path}', row {number}", f"{exc}.")
