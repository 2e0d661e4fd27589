"""JSON Lines: a record a line, and what becomes of lines and files that are broken."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from dugs_stream.errors import Problem
from dugs_stream.inputs.files import list_files
from dugs_stream.inputs.rows.fields import RowFields
from dugs_stream.records import Record

LINES = [{"input": [1, 2], "label": 3, "id": "a"}, {"input": [4], "label": "cat", "id": 5}, {"input": None}]


def written(path: Path, lines: list[Any], end: str = "\n") -> Path:
    """The file with a JSON value a line; packed if its name says so."""
    text = end.join(json.dumps(line) for line in lines).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def read(path: Path, codec: str = "json", **fields: str | None) -> tuple[list[Record], list[Problem]]:
    """The records of a file, and what could not be read."""
    problems: list[Problem] = []
    row = RowFields(**{"label_header": "label", **fields})
    records = list(list_files([path], codec, fields=row, max_bytes=2**20).samples(problems.append))
    return records, problems


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.jsonl.gz", "A.NDJSON.gz"])
def test_line_is_a_value_as_it_stands_and_its_field_a_label(tmp_path: Path, name: str) -> None:
    """The field that is called as the header that `input.label` reads goes into it; the key is file and line."""
    records, problems = read(written(tmp_path / name, LINES, "\r\n"))

    assert problems == []
    assert [record.value for record in records] == [json.dumps(line).encode() for line in LINES]
    assert [record.headers for record in records] == [(("label", b"3"),), (("label", b"cat"),), ()]
    assert [record.key for record in records] == [f"{name}:{place}".encode() for place in (1, 2, 3)]
    assert [record.id for record in records] == ["files/0/0", "files/0/1", "files/0/2"]


def test_fields_are_named_by_paths(tmp_path: Path) -> None:
    """Value, label and key; text as UTF-8, all else as JSON, null is no value."""
    lines = [
        {"doc": {"text": "é", "n": [1, 2.5]}, "y": {"class": 7}, "id": "k"},
        {"doc": {"text": None, "n": []}, "y": {"class": None}, "id": 9},
    ]
    path = written(tmp_path / "a.jsonl", lines)

    texts, _ = read(path, "text", column="doc.text", label="y.class", key="id")
    numbers, _ = read(path, "json", column="doc.n")

    assert [(each.value, each.headers, each.key) for each in texts] == [
        ("é".encode(), (("label", b"7"),), b"k"),
        (None, (), b"9"),
    ]
    assert [each.value for each in numbers] == [b"[1, 2.5]", b"[]"]


def test_bytes_in_json_are_base64(tmp_path: Path) -> None:
    """For codecs whose values are no text."""
    lines = [{"image": base64.b64encode(b"\xff\0").decode()}, {"image": "%%"}, {"image": 7}]

    records, problems = read(written(tmp_path / "a.jsonl", lines), "image", column="image")

    assert [each.value for each in records] == [b"\xff\0"]
    assert [each.place.partition(", ")[2] for each in problems] == ["line 2", "line 3"]
    assert "not Base64" in problems[0].message
    assert "holds a int, expected bytes, or text in Base64" in problems[1].message


def test_codec_that_reads_no_json_line_asks_for_the_field_once(tmp_path: Path) -> None:
    """One problem a file, with the names there are; among the pictures of a folder such a file only describes them."""
    path = written(tmp_path / "metadata.jsonl", [{"file_name": "a.png", "label": 1}] * 3)
    (tmp_path / "a.png").write_bytes(b"x")

    for codec in ("image", "text"):
        records, problems = read(path, codec)
        assert (records, len(problems)) == ([], 1), codec
        assert (
            "name the field that holds the sample (--column); it has 'file_name', 'label'"
            in problems[0].message
        )
    listing = list_files([tmp_path], "image")
    assert ([file.key for file in listing.files], dict(listing.passed_over)) == ([b"a.png"], {".jsonl": 1})


def test_broken_lines_are_left_to_the_codec_or_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    """A whole line is a value, though no JSON; a field of it cannot be had. Blank lines are none."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"x": 1}\n\n{"x": \n  \n{"y": 2}\n\xff\n{"x": 3}')

    whole, none = read(path)
    fields, problems = read(path, column="x")

    assert none == []
    assert [each.key for each in whole] == [
        b"a.jsonl:1",
        b"a.jsonl:3",
        b"a.jsonl:5",
        b"a.jsonl:6",
        b"a.jsonl:7",
    ]
    assert [each.value for each in fields] == [b"1", b"3"]
    assert [each.place for each in problems] == [f"'{path}', line {number}" for number in (3, 5, 6)]
    assert "no field 'x'; it has 'y'" in problems[1].message
    assert [each.id for each in fields] == ["files/0/0", "files/0/4"], "each line has a number of its own"


def test_packed_file_that_breaks_off_gives_what_came_before(tmp_path: Path) -> None:
    """No half a line is a record; the problem names file and line."""
    whole = gzip.compress("\n".join(f'{{"input": [{place}]}}' for place in range(9000)).encode())
    for name, content in {
        "cut": whole[: len(whole) // 2],
        "spoilt": whole[:2000] + b"\0" * 50 + whole[2050:],
    }.items():
        path = tmp_path / f"{name}.jsonl.gz"
        path.write_bytes(content)

        records, problems = read(path)

        assert 0 < len(records) < 9000
        assert [each.value for each in records] == [
            f'{{"input": [{place}]}}'.encode() for place in range(len(records))
        ]
        (problem,) = problems
        assert f"after line {len(records)}" in problem.message, problem


def test_empty_file_and_one_that_is_not_packed_are_named(tmp_path: Path) -> None:
    """As is one that cannot be opened at all; other files go on."""
    (tmp_path / "a.jsonl").write_bytes(b"")
    (tmp_path / "b.jsonl.gz").write_bytes(b'{"input": [1]}\n')
    (tmp_path / "c.jsonl").symlink_to("/proc/self/mem")
    written(tmp_path / "d.jsonl", [{"input": [1]}])

    records, problems = read(tmp_path)

    assert [each.key for each in records] == [b"d.jsonl:1"]
    assert [Path(each.place.strip("'")).name for each in problems] == ["a.jsonl", "b.jsonl.gz", "c.jsonl"]
    assert "no lines" in problems[0].message


def test_line_without_end_does_not_fill_the_memory(tmp_path: Path) -> None:
    """It is named with its length, and the next line is read."""
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.write(b'{"input": [1]}\n')
        file.seek(9 * 2**20)
        file.write(b'\n{"input": [2]}\n')

    records, problems = read(path)

    assert [each.key for each in records] == [b"a.jsonl:1", b"a.jsonl:3"]
    assert [each.place for each in problems] == [f"'{path}', line 2"]
    assert problems[0].message.startswith(f"{9 * 2**20 - 15 + 1} bytes, at most 1048576 are read")
