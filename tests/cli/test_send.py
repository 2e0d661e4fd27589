"""`dugs send`: files become records, in order, with their folder as class."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.daemons.deployment import Deployment
from tests.support.records.pictures import CLASSES
from tests.support.terminals.commands import dugs, start_dugs
from tests.support.waiting import wait_until


def test_file_becomes_a_record_under_its_path_and_class(decided: Deployment, pictures: Path) -> None:
    """Value = the file's bytes, key = the path below the folder, header label = the folder's name, sorted by path."""
    files = sorted(path.relative_to(pictures).as_posix() for path in pictures.rglob("*.png"))

    records = decided.inputs()

    assert [record.key for record in records] == [name.encode() for name in files]
    for record, name in zip(records, files, strict=True):
        assert record.value == (pictures / name).read_bytes()
        assert record.headers == (("label", name.split("/")[0].encode()),)


def test_class_of_the_folder_is_the_label_of_the_event(decided: Deployment) -> None:
    """By the place of its name in `classes`."""
    for event in decided.events("unique"):
        folder = event["source"]["key"].split("/")[0]
        assert (event["label_name"], event["label"]) == (folder, CLASSES.index(folder))
        assert event["label_source"] == "given"


def test_repeat_and_limit_count_records(fresh: Deployment, pictures: Path) -> None:
    """The folder again and again, cut at the limit; the tally is a line on stderr, without a bar."""
    stored = 0
    for sent, options in {
        26: (),
        5: ("--limit", "5"),
        78: ("--repeat", "3"),
        30: ("--repeat", "2", "--limit", "30"),
    }.items():
        ended = dugs("send", "-c", fresh.config, pictures, *options)

        assert (ended.code, ended.out, ended.err) == (0, "", f"sent {sent} records to dugs.samples\n"), (
            options
        )
        stored += sent
        assert len(fresh.inputs()) == stored, options


def test_repeat_and_limit_below_one_are_bad_usage(fresh: Deployment, pictures: Path) -> None:
    """Exit 2 before anything is opened."""
    for options in (("--repeat", "0"), ("--limit", "0"), ("--limit", "many"), ("--repeat", "-1")):
        assert dugs("send", "-c", fresh.config, pictures, *options).code == 2, options
    assert not (fresh.folder / "log.db").exists()


def test_paths_that_give_nothing_are_all_named(fresh: Deployment, tmp_path: Path) -> None:
    """Missing, an empty folder, files for another codec: exit 2, a line each, and no record is sent."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("a")

    ended = dugs("send", "-c", fresh.config, tmp_path / "none", tmp_path / "empty", tmp_path / "texts")

    assert (ended.code, ended.out) == (2, "")
    lines = ended.err.splitlines()
    assert len(lines) == 3
    assert all(
        str(tmp_path / name) in line for name, line in zip(("none", "empty", "texts"), lines, strict=True)
    )
    assert "(1 left out)" in lines[2]
    assert not (fresh.folder / "log.db").exists()


def test_progress_is_a_bar_on_a_terminal(fresh: Deployment, pictures: Path) -> None:
    """Where stderr is a terminal it moves; stdout stays empty."""
    ours, theirs = pty.openpty()
    process = start_dugs("send", "-c", fresh.config, pictures, "--repeat", "20", stderr=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # Linux's way to say that the other end is closed
            break
        if not piece:
            break
        shown += piece
    out, _ = process.communicate(timeout=60)
    os.close(ours)

    assert (process.returncode, out) == (0, "")
    assert "━" in shown.decode()
    assert "520/520" in shown.decode()


def test_sender_that_is_told_to_stop_leaves_a_whole_log(
    fresh: Deployment, pictures: Path, tmp_path: Path
) -> None:
    """What it had stored is there, each record whole and in order; nothing has to be repaired."""
    fresh.prepare()
    process = start_dugs("send", "-c", fresh.config, pictures, "--repeat", "200000")
    try:
        wait_until(lambda: len(fresh.inputs()) > 30, 60)
        process.send_signal(signal.SIGTERM)
        out, errors = process.communicate(timeout=60)
    finally:
        process.kill()

    assert process.returncode != 0
    assert out == ""
    assert not re.search("Traceback", errors)
    keys = [record.key for record in fresh.inputs()]
    assert keys == [keys[place % 26] for place in range(len(keys))]
    assert [record.offset for record in fresh.inputs()] == list(range(len(keys)))


def test_npy_and_json_files_are_sent_under_their_codecs(fresh: Deployment, tmp_path: Path) -> None:
    """The codec says which files of a folder count."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "a.json").write_text(json.dumps({"input": [1, 2]}))
    (folder / "b.npy").write_bytes(b"x")
    (folder / ".hidden.json").write_text("{}")

    ended = dugs("send", "-c", fresh.config, folder, "--set", "input.codec={type: json}")

    sent, unclassed, passed_over = ended.err.splitlines()
    assert (sent, passed_over) == (
        "sent 1 record to dugs.samples",
        "passed over 1 .npy: the codec json takes .json",
    )
    assert unclassed.startswith("1 of 1 files have no class")
    assert fresh.inputs()[0].headers == ()  # a file in the folder itself has no class


def test_file_that_cannot_be_read_is_one_failure_and_exit_1(fresh: Deployment, tmp_path: Path) -> None:
    """However often everything is sent, it is named once; the others are sent."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("a.png", "c.png"):
        (folder / name).write_bytes(b"x")
    (folder / "b.png").symlink_to("/proc/self/mem")

    ended = dugs("send", "-c", fresh.config, folder, "--repeat", "2")

    assert ended.code == 1
    assert [record.key for record in fresh.inputs()] == [b"a.png", b"c.png"] * 2
    sent, unclassed, failure, count = ended.err.splitlines()
    assert sent == "sent 4 records to dugs.samples"
    assert unclassed == (
        "3 of 3 files have no class: they lie directly in the folder named, or were named themselves; give the folder "
        f"above it ({tmp_path}/)"
    )
    assert "b.png" in failure
    assert count == "1 could not be read; all others were"


def test_class_goes_into_the_header_that_the_label_is_read_from(fresh: Deployment, tmp_path: Path) -> None:
    """`input.label: header:class` reads what `dugs send` has written."""
    (tmp_path / "pictures" / "cat").mkdir(parents=True)
    (tmp_path / "pictures" / "cat" / "a.png").write_bytes(b"x")

    assert (
        dugs("send", "-c", fresh.config, tmp_path / "pictures", "--set", "input.label=header:class").code == 0
    )

    assert [record.headers for record in fresh.inputs()] == [(("class", b"cat"),)]


def test_files_without_a_class_are_told_where_the_loss_needs_one(fresh: Deployment, pictures: Path) -> None:
    """The daemon would reject every one of them; with the model's own prediction, a class of rows or an upper folder none."""
    alone = pictures / "square" / "00.png"
    for paths, options, expected in (
        ((pictures / "disc", alone), (), f"9 of 9 files have no class: .* above it \\({pictures}/\\)"),
        ((pictures, pictures / "disc"), (), f"8 of 34 files have no class: .* above it \\({pictures}/\\)"),
        ((pictures,), ("--set", "input.class_folder=2"), "26 of 26 .* input.class_folder: 2 names"),
        ((pictures / "disc",), ("--set", "gradient.loss=pseudo"), None),
        ((pictures,), (), None),
    ):
        ended = dugs("send", "-c", fresh.config, *paths, *options)

        assert ended.code == 0, options
        told = ended.err.splitlines()[1:]
        assert len(told) == (expected is not None), (paths, told)
        assert expected is None or re.search(expected, told[0]), told


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
def test_misspelled_column_is_one_line_with_the_names_there_are(
    fresh: Deployment, tmp_path: Path, name: str
) -> None:
    """Not a line a row; and where nothing could be read, nothing is said of others."""
    rows = [{"image": {"bytes": "eA==", "path": str(place)}} for place in range(30)]
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / name)
    else:
        (tmp_path / name).write_text("".join(f"{json.dumps(row)}\n" for row in rows))

    ended = dugs("send", "-c", fresh.config, tmp_path / name, "--column", "image.byte")

    sent, failure, count = ended.err.splitlines()
    assert (ended.code, sent) == (1, "sent 0 records to dugs.samples")
    assert "'image.byte'; image has 'bytes', 'path'" in failure
    assert failure.endswith("So it is with 29 more of this file.")
    assert count == "30 could not be read; and there were no others"
