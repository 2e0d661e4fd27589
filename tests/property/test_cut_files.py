"""Files of rows that were cut or spoilt anywhere: what is read is a beginning of the whole, and what is missing is told."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from dugs_stream.errors import Problem
from dugs_stream.inputs.files import list_files
from dugs_stream.inputs.rows.fields import RowFields
from dugs_stream.records import Record

ROWS = [{"text": f"é {place}" * (1 + place % 3), "label": place} for place in range(40)]


def files() -> dict[str, bytes]:
    """The same rows in each format."""
    lines = "\n".join(json.dumps(row) for row in ROWS).encode()
    table, shard = io.BytesIO(), io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), table, row_group_size=9)
    with tarfile.open(fileobj=shard, mode="w") as archive:
        for place, row in enumerate(ROWS):
            for ending in ("text", "label"):
                content = str(row[ending]).encode()
                member = tarfile.TarInfo(f"{place}.{ending}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return {
        "a.jsonl.gz": gzip.compress(lines),
        "a.parquet": table.getvalue(),
        "a.tar": shard.getvalue(),
        "a.tar.gz": gzip.compress(shard.getvalue()),
    }


FILES = files()


def read(folder: str, name: str, content: bytes) -> tuple[list[Record], list[Problem]]:
    """The records of a file of this content, and what could not be read."""
    (Path(folder) / name).write_bytes(content)
    problems: list[Problem] = []
    fields = RowFields("text", "label", label_header="label")
    return list(list_files([Path(folder) / name], "text", fields=fields).samples(problems.append)), problems


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(sorted(FILES)), st.data())
def test_cut_file_gives_a_beginning_and_one_problem(name: str, data: st.DataObject) -> None:
    """At whichever byte: no row twice, none in half, none out of order."""
    cut = data.draw(st.integers(0, len(FILES[name])))
    with tempfile.TemporaryDirectory() as folder:
        whole, _ = read(folder, name, FILES[name])

        records, problems = read(folder, name, FILES[name][:cut])

    assert [each.value for each in whole] == [row["text"].encode() for row in ROWS]  # type: ignore[attr-defined]
    assert records == whole[: len(records)]
    assert len(problems) == 1 or (not problems and records == whole)


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(sorted(FILES)), st.data())
def test_spoilt_file_never_raises(name: str, data: st.DataObject) -> None:
    """With any bytes changed; what is read afterwards is a record or a problem."""
    content = bytearray(FILES[name])
    at = data.draw(st.integers(0, len(content) - 1))
    spoilt = data.draw(st.binary(min_size=1, max_size=40))
    content[at : at + len(spoilt)] = spoilt

    with tempfile.TemporaryDirectory() as folder:
        records, problems = read(folder, name, bytes(content))

    assert records or problems
