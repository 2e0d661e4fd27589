"""`dugs scan --vectors`, and the table of thresholds at the end of a scan."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from dugs_stream.commands.index import replayed
from tests.support.daemons.deployment import Deployment
from tests.support.terminals.commands import dugs


def test_table_says_what_a_scan_at_another_threshold_keeps(decided: Deployment, pictures: Path) -> None:
    """It is exact, and the row of this run's threshold is marked."""
    ended = dugs("scan", "-c", decided.config, pictures)
    rows = {float(words[0]): words[1:] for words in map(str.split, ended.err.splitlines()[3:])}

    assert "of 24 records with a gradient: exact" in ended.err
    assert rows[0.5][2:] == ["this", "run"]
    for threshold in (0.95, 0.99):
        other = dugs("scan", "-c", decided.config, pictures, "--set", f"selection.threshold={threshold}")
        uniques = [event["type"] for event in other.lines].count("unique")
        assert rows[threshold][:2] == [str(uniques), f"{uniques / 24:.1%}"]


def test_vectors_lie_beside_the_decisions(decided: Deployment, pictures: Path, tmp_path: Path) -> None:
    """A row for each line: those of uniques are the changelog's, those of rejected records zeros."""
    output, vectors = tmp_path / "decisions.jsonl", tmp_path / "new" / "vectors.npy"

    ended = dugs("scan", "-c", decided.config, pictures, "-o", output, "--vectors", vectors)

    events = [json.loads(line) for line in output.read_text().splitlines()]
    found = np.load(vectors)
    kinds = [event["type"] for event in events]
    assert ended.code == 0
    assert (found.shape, found.dtype) == ((26, 64), np.float32)
    uniques = [row for row, kind in enumerate(kinds) if kind == "unique"]
    assert np.array_equal(found[uniques], replayed(decided.settings).vectors)
    assert [bool(row.any()) for row in found] == [kind != "rejected" for kind in kinds]


def test_one_file_for_decisions_and_vectors_is_bad_usage(decided: Deployment, pictures: Path) -> None:
    """Two writers would leave a file that is neither."""
    ended = dugs("scan", "-c", decided.config, pictures, "-o", "same.npy", "--vectors", "./same.npy")

    assert ended.code == 2
    assert "-o and --vectors name one file" in ended.err
    assert not Path("same.npy").exists()


def test_vectors_into_a_pipe_are_refused(decided: Deployment, pictures: Path, tmp_path: Path) -> None:
    """Before a record is judged; the system's own error would name no file."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        ended = dugs("scan", "-c", decided.config, pictures, "--vectors", pipe)
    finally:
        os.close(reading)

    assert (ended.code, ended.out) == (1, "")
    assert f"vectors need a file, since their number is written at its beginning: '{pipe}'" in ended.err


def test_all_rejected_shows_no_table(decided: Deployment, pictures: Path) -> None:
    """Nothing would be kept at any threshold."""
    ended = dugs("scan", "-c", decided.config, pictures / "disc")

    assert ended.err.splitlines()[0] == "8 rejected (8 label_missing)"
    assert "other thresholds" not in ended.err
