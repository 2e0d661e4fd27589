"""Parquet: a record a row, from the columns that are asked for."""

from __future__ import annotations

import datetime as dt
import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dugs_stream.errors import ConfigurationError
from dugs_stream.inputs.files import list_files
from tests.unit.inputs.rows.test_json_lines import read

PICTURES: dict[str, list[Any]] = {
    "image": [{"bytes": b"\x89P", "path": "a.png"}, {"bytes": b"\xff\xd8", "path": None}],
    "label": [3, 0],
    "caption": ["a", "b"],
}


def written(path: Path, columns: dict[str, list[Any]], **options: Any) -> Path:
    """The file with these columns."""
    pq.write_table(pa.table(columns), path, **options)
    return path


def test_only_column_of_bytes_is_the_picture_and_label_the_label(tmp_path: Path) -> None:
    """As Hugging Face's data sets write them, without an option; a path into the column says the same."""
    path = written(tmp_path / "a.parquet", PICTURES)

    for options in ({}, {"column": "image"}, {"column": "image.bytes", "label": "label"}):
        records, problems = read(path, "image", **options)

        assert problems == []
        assert [each.value for each in records] == [b"\x89P", b"\xff\xd8"], options
        assert [each.headers for each in records] == [(("label", b"3"),), (("label", b"0"),)], options
        assert [each.key for each in records] == [b"a.parquet:1", b"a.parquet:2"]


def test_row_is_a_json_object_for_codecs_of_json(tmp_path: Path) -> None:
    """Nested columns with it; bytes become Base64, dates text. A column by name is that alone."""
    day = dt.date(2026, 11, 24)
    path = written(
        tmp_path / "a.parquet", {"input": [[0.5, 1.0]], "label": ["cat"], "raw": [b"\xff"], "day": [day]}
    )

    (whole,), _ = read(path)
    (column,), _ = read(path, column="input", key="day")
    (text,), _ = read(path, "text", column="label")

    assert json.loads(whole.value or b"") == {
        "input": [0.5, 1.0],
        "label": "cat",
        "raw": "/w==",
        "day": "2026-11-24",
    }
    assert (column.value, column.key, column.headers) == (b"[0.5, 1.0]", b"2026-11-24", (("label", b"cat"),))
    assert text.value == b"cat"


def test_rows_of_all_groups_come_in_order_and_are_counted_before(tmp_path: Path) -> None:
    """However few rows a group has."""
    path = written(tmp_path / "a.parquet", {"text": [f"t{place}" for place in range(100)]}, row_group_size=7)

    records, _ = read(path, "text", column="text")

    assert [each.value for each in records] == [f"t{place}".encode() for place in range(100)]
    assert list_files([path], "text").count() == 100


def test_missing_columns_and_ambiguous_ones_are_named_once_a_file(tmp_path: Path) -> None:
    """With the columns there are."""
    path = written(tmp_path / "a.parquet", {**PICTURES, "thumbnail": [b"", b""]})

    for options, message in (
        (
            {"column": "picture", "key": "id.x"},
            "no column 'picture', 'id.x'; it has 'image', 'label', 'caption', 'thumbnail'",
        ),
        ({}, "name the field that holds the sample (--column); it has 'image', 'label'"),
    ):
        records, problems = read(path, "image", **options)

        assert (records, len(problems)) == ([], 1)
        assert message in problems[0].message


def test_field_that_a_row_lacks_is_that_rows_problem(tmp_path: Path) -> None:
    """The others go on, and null is no value."""
    path = written(tmp_path / "a.parquet", {"image": [b"x", None], "meta": [{"y": 1}, {"y": None}]})

    records, problems = read(path, "image", column="image", label="meta.y")
    none, wrong = read(path, "image", column="image", label="meta.z")

    assert [(each.value, each.headers) for each in records] == [(b"x", (("label", b"1"),)), (None, ())]
    assert (problems, none) == ([], [])
    assert [each.place for each in wrong] == [f"'{path}', row 1", f"'{path}', row 2"]


def test_row_that_python_has_no_value_for_is_that_rows_problem(tmp_path: Path) -> None:
    """Text that is not UTF-8, a date beyond the year 9999; the rows beside it are read, and columns not asked for matter not."""
    texts = pa.Array.from_buffers(pa.string(), 3, pa.array([b"a", b"\xff", b"c"]).buffers())
    times = pa.array([1, 2, 10**15], pa.timestamp("s"))
    path = written(tmp_path / "a.parquet", {"input": [[1], [2], [3]], "text": texts, "time": times})

    whole, problems = read(path)
    alone, none = read(path, column="input")

    assert [each.key for each in whole] == [b"a.parquet:1"]
    assert [each.place for each in problems] == [f"'{path}', row 2", f"'{path}', row 3"]
    assert "utf-8" in problems[0].message
    assert ([each.value for each in alone], none) == ([b"[1]", b"[2]", b"[3]"], [])


def test_damaged_files_are_named_and_the_others_go_on(tmp_path: Path) -> None:
    """Cut short, of another format, without rows, empty, and damaged within."""
    whole = written(
        tmp_path / "e.parquet", {"input": [list(range(500))] * 40}, row_group_size=10, compression="gzip"
    ).read_bytes()
    (tmp_path / "a.parquet").write_bytes(whole[:-40])
    (tmp_path / "b.parquet").write_bytes(b"input,label\n1,2\n")
    written(tmp_path / "c.parquet", {"input": pa.array([], pa.list_(pa.float32()))})
    (tmp_path / "d.parquet").write_bytes(b"")
    (tmp_path / "f.parquet").write_bytes(
        whole[: len(whole) // 2] + b"\xa5" * 300 + whole[len(whole) // 2 + 300 :]
    )

    records, problems = read(tmp_path)

    assert [each.key for each in records][:40] == [f"e.parquet:{place}".encode() for place in range(1, 41)]
    assert [Path(each.place.strip("'")).name for each in problems] == [f"{name}.parquet" for name in "abcdf"]
    assert "no rows" in problems[2].message
    assert list_files([tmp_path], "json").count() is None, "what cannot be read is not counted"


def test_missing_library_is_named_with_its_extra_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only where a file needs it."""
    (tmp_path / "a.jsonl").write_text("{}")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)

    assert len(list_files([tmp_path], "json")) == 1
    (tmp_path / "b.parquet").write_bytes(b"")
    with pytest.raises(ConfigurationError, match=r"pip install -e '\.\[parquet\]' -c"):
        list_files([tmp_path], "json")
