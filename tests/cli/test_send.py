"""`dugs send`: files become records, in order, with their folder as class."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
from pathlib import Path

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

    assert ended.err == "sent 1 record to dugs.samples\npassed over 1 .npy: the codec json takes .json\n"
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
    sent, failure, count = ended.err.splitlines()
    assert sent == "sent 4 records to dugs.samples"
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
