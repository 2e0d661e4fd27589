"""Formats of files that hold many samples, by the ending of their names, with what reads each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from dugs_stream.errors import Problem
from dugs_stream.inputs.rows.fields import Row, RowPlan, ValueForm
from dugs_stream.inputs.rows.json_lines import read_json_lines
from dugs_stream.inputs.rows.parquet import count_rows, read_parquet, require_pyarrow
from dugs_stream.inputs.rows.tar_shards import read_tar

Reader = Callable[[Path, RowPlan], Iterator[Row | Problem]]
"""Rows and problems in the file's order; never raises."""

_PARQUET = ".parquet"
READERS: Mapping[str, Reader] = {
    ".jsonl": read_json_lines,
    ".jsonl.gz": read_json_lines,
    ".ndjson": read_json_lines,
    ".ndjson.gz": read_json_lines,
    _PARQUET: read_parquet,
    ".tar": read_tar,
    ".tar.gz": read_tar,
    ".tgz": read_tar,
}
"""By ending, in lower case."""


def ending_of(path: Path) -> str:
    """The ending of a name, in lower case: `.gz` with the one before it."""
    endings = [each.lower() for each in path.suffixes[-2:]]
    return "".join(endings) if endings[-1:] == [".gz"] else "".join(endings[-1:])


def reader_of(path: Path) -> Reader | None:
    """What reads the rows of a file of this name; None if it is one sample."""
    return READERS.get(ending_of(path))


def suits(path: Path, plan: RowPlan) -> bool:
    """Whether a folder's file of rows is for the codec.

    A whole line of JSON is neither picture nor array; such a file beside pictures (`metadata.jsonl`) describes them.
    """
    is_lines = reader_of(path) is read_json_lines
    return not (is_lines and plan.form is ValueForm.BYTES and plan.fields.column is None)


def require_readers(paths: Iterable[Path]) -> None:
    """Raises ConfigurationError if a library for one of the files is not installed."""
    if any(ending_of(path) == _PARQUET for path in paths):
        require_pyarrow()


def count_of(path: Path) -> int | None:
    """How many records the file gives; None if only reading it tells."""
    if reader_of(path) is None:
        return 1
    return count_rows(path) if ending_of(path) == _PARQUET else None
