"""`dugs scan`: the daemon's decisions without a daemon."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dugs_stream.commands.index import replayed
from dugs_stream.commands.threshold_table import ThresholdTable
from tests.support.daemons.deployment import Deployment
from tests.support.terminals.commands import dugs


def without_names(event: dict[str, Any]) -> dict[str, Any]:
    """What a decision says, less where the record lay and when it was judged."""
    nearest = event["nearest"] and event["nearest"]["sequence"]
    return {
        **{name: value for name, value in event.items() if name not in {"id", "time", "source", "nearest"}},
        "key": event["source"]["key"],
        "nearest": nearest,
    }


def test_scan_decides_as_the_daemon_does(decided: Deployment, pictures: Path) -> None:
    """Verdicts, numbers and similarities to the last bit; only ids and times differ. Nothing else is made."""
    before = {path: path.stat().st_mtime_ns for path in decided.folder.rglob("*")}

    ended = dugs("scan", "-c", decided.config, pictures)

    assert ended.code == 0
    assert [without_names(event) for event in ended.lines] == [
        without_names(dict(event)) for event in decided.events()
    ]
    assert [event["id"] for event in ended.lines] == [f"files/0/{place}" for place in range(26)]
    uniques = [event["id"] for event in ended.lines if event["type"] == "unique"]
    for event in ended.lines:
        assert event["nearest"] is None or event["nearest"]["id"] == uniques[event["nearest"]["sequence"]]
    assert {path: path.stat().st_mtime_ns for path in decided.folder.rglob("*")} == before


def test_batches_of_a_scan_change_nothing(decided: Deployment, pictures: Path) -> None:
    """A matter of memory alone."""
    expected = [without_names(dict(event)) for event in decided.events()]
    for records in (1, 5):
        ended = dugs("scan", "-c", decided.config, pictures, "--set", f"input.batch.records={records}")

        assert [without_names(event) for event in ended.lines] == expected, records


def test_file_whose_decoding_runs_out_of_memory_stands_alone(tmp_path: Path) -> None:
    """It is rejected, and the others of its batch get the verdicts that they have without it."""
    deployment = Deployment(
        tmp_path / "fresh",
        input={"codec": "tests.support.records.process_codecs:obey", "label": "none"},
        gradient={"loss": "pseudo"},
    )
    folder = tmp_path / "files"
    folder.mkdir()
    for place in range(12):
        (folder / f"{place:02}").write_text("memory 9 bytes" if place == 7 else f"row {place % 5 + 1}")

    ended = dugs("scan", "-c", deployment.config, folder)

    (refused,) = [event for event in ended.lines if event["type"] == "rejected"]
    assert refused["source"]["key"] == "07"
    assert "more memory than there is" in refused["error"]
    (folder / "07").unlink()
    without = dugs("scan", "-c", deployment.config, folder).lines
    judged = [event for event in ended.lines if event != refused]
    assert [(each["type"], each["gradient_norm"]) for each in judged] == [
        (each["type"], each["gradient_norm"]) for each in without
    ]


def test_decisions_go_into_the_file_that_is_named(
    decided: Deployment, pictures: Path, tmp_path: Path
) -> None:
    """Its folder is made, stdout stays empty, and the tally goes to stderr, with the reasons for what was rejected."""
    output = tmp_path / "new" / "decisions.jsonl"

    ended = dugs("scan", "-c", decided.config, pictures, "-o", output)

    verdicts = Counter(json.loads(line)["type"] for line in output.read_text().splitlines())
    assert (ended.code, ended.out) == (0, "")
    assert verdicts.total() == 26
    counts = {f"{count} {verdict}" for verdict, count in verdicts.items() if verdict != "rejected"}
    assert set(ended.err.splitlines()[0].split(", ")) == {*counts, "2 rejected (2 undecodable)"}


def test_files_in_the_folder_itself_have_no_class(decided: Deployment, pictures: Path) -> None:
    """Where the loss needs a label, that is said of each; with the model's own prediction they are judged."""
    refused = dugs("scan", "-c", decided.config, pictures / "disc")
    judged = dugs("scan", "-c", decided.config, pictures / "disc", "--set", "gradient.loss=pseudo")

    assert {event["reason"] for event in refused.lines} == {"label_missing"}
    assert {event["label_source"] for event in judged.lines} == {"predicted"}


def test_refused_scan_speaks_of_files(decided: Deployment, pictures: Path, tmp_path: Path) -> None:
    """There is no micro-batch to commit, no topic for dead letters, and a file has a path instead of an offset."""
    for place in range(40):
        shutil.copy(pictures / "disc" / "01.png", tmp_path / f"{place:02}.png")

    ended = dugs("scan", "-c", decided.config, tmp_path)

    assert ended.code != 0
    for part in (
        "label_missing",
        "'00.png': no header",
        "40 of 40 files have no class",
        "may_reject_all=true",
    ):
        assert part in ended.err, part
    for part in ("micro-batch", "dead-letter", "files/0/0", "the stream"):
        assert part not in ended.err, part


def test_output_that_cannot_be_opened_is_a_line_and_not_a_traceback(
    decided: Deployment, pictures: Path
) -> None:
    """Exit 1 before anything is judged."""
    for folder in ("/proc/none", "/dev/null"):
        ended = dugs("scan", "-c", decided.config, pictures, "-o", f"{folder}/decisions.jsonl")

        assert (ended.code, ended.out) == (1, ""), folder
        (line,) = ended.err.splitlines()
        assert folder in line


def test_model_that_fails_on_every_file_is_a_failure(fresh: Deployment, pictures: Path) -> None:
    """That is no fault of the files."""
    fresh.write(model={"factory": "tests.support.models.small:breaks_on_large", "kwargs": {"limit": 0.0}})

    ended = dugs("scan", "-c", fresh.config, pictures)

    assert ended.code == 1
    assert "model.factory" in ended.err


def test_empty_folder_is_bad_usage(decided: Deployment, tmp_path: Path) -> None:
    """Exit 2, with what was looked for."""
    ended = dugs("scan", "-c", decided.config, tmp_path)

    assert (ended.code, ended.out) == (2, "")
    assert ".png" in ended.err


def test_file_that_cannot_be_read_is_one_failure_and_exit_1(
    decided: Deployment, pictures: Path, tmp_path: Path
) -> None:
    """The rest is judged as without it, and stderr names what was not, and what was passed over."""
    folder = tmp_path / "pictures"
    shutil.copytree(pictures, folder)
    (folder / "disc" / "000.png").symlink_to("/proc/self/mem")
    (folder / "disc" / "a.avif").write_bytes(b"")
    expected = dugs("scan", "-c", decided.config, pictures)

    ended = dugs("scan", "-c", decided.config, folder)

    assert ended.code == 1
    assert [event["similarity"] for event in ended.lines] == [event["similarity"] for event in expected.lines]
    *judged, passed_over, failure, count = ended.err.splitlines()
    assert judged == expected.err.splitlines()
    assert passed_over.startswith("passed over 1 .avif: the codec image takes .apng, .bmp, ")
    assert failure.startswith("dugs: ")
    assert "disc/000.png" in failure
    assert count == "1 could not be read; all others were"


def test_class_of_nested_folders_is_a_setting_and_the_rejection_names_it(
    decided: Deployment, pictures: Path, tmp_path: Path
) -> None:
    """disc/images/1.png: the folder images is no class, and disc is one."""
    for folder in ("disc", "square"):
        shutil.copytree(pictures / folder, tmp_path / "nested" / folder / "images")

    refused = dugs("scan", "-c", decided.config, tmp_path / "nested")
    judged = dugs("scan", "-c", decided.config, tmp_path / "nested", "--set", "input.class_folder=1")

    assert {event["reason"] for event in refused.lines} <= {"label_unknown"}
    assert "input.class_folder: 1" in refused.lines[0]["error"]
    assert {event["label_name"] for event in judged.lines if event["type"] != "rejected"} == {
        "disc",
        "square",
    }


def test_loss_of_ones_own_is_given_numbers_and_skipped_files_are_counted(
    fresh: Deployment, tmp_path: Path
) -> None:
    """Change events as files: fractions and negative numbers as labels, deletes in the tally and in no rejection."""
    folder = tmp_path / "events"
    folder.mkdir()
    for place in range(6):
        row = {"input": [float(place), 1.0, -1.0, 0.5] * (4 if place else 3), "y": place - 2.5}
        change = {"op": "d", "after": None} if place == 3 else {"op": "c", "after": row}
        (folder / f"{place}.json").write_text(json.dumps({"payload": change}))
    fresh.write(
        input={"codec": "json", "label": "json:y", "label_type": "float32", "envelope": "debezium"},
        model={"factory": "tests.support.models.small:tiny"},
        gradient={"loss": "tests.support.records.own_code:squared_error"},
    )

    ended = dugs("scan", "-c", fresh.config, folder)

    assert ended.code == 0, ended.err
    assert [event["type"] for event in ended.lines].count("skipped") == 1
    reasons = [event["reason"] for event in ended.lines if event["type"] == "rejected"]
    assert reasons == ["wrong_shape"], "the model knows its shape, so the first record does not set it"
    assert "1 skipped" in ended.err


def test_rows_of_tables_and_shards_are_judged_as_the_files_were(
    decided: Deployment, pictures: Path, tmp_path: Path
) -> None:
    """Bytes and class are the same, so each decision is; stderr names what could not be read, and the exit code is 1."""
    files = sorted(pictures.rglob("*.png"), key=lambda path: path.relative_to(pictures).parts)
    images = [{"bytes": path.read_bytes(), "path": path.name} for path in files]
    classes = [path.parent.name for path in files]
    pq.write_table(pa.table({"image": images, "class": classes}), tmp_path / "a.parquet")
    with tarfile.open(tmp_path / "b.tar", "w") as shard:
        for path in files:
            for ending, content in (("png", path.read_bytes()), ("cls", path.parent.name.encode())):
                member = tarfile.TarInfo(f"{path.parent.name}/{path.stem}.{ending}")
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))
    expected = [{**without_names(dict(event)), "key": None} for event in decided.events()]

    table = dugs(
        "scan", "-c", decided.config, tmp_path / "a.parquet", "--column", "image.bytes", "--label", "class"
    )
    sharded = dugs("scan", "-c", decided.config, tmp_path / "b.tar")
    (tmp_path / "c.parquet").write_bytes(b"PAR1")
    both = dugs("scan", "-c", decided.config, tmp_path, "--label", "cls")

    assert (table.code, sharded.code, both.code) == (0, 0, 1)
    for ended in (table, sharded):
        assert [{**without_names(event), "key": None} for event in ended.lines] == expected
    assert table.lines[0]["source"]["key"] == "a.parquet:1"
    assert sharded.lines[0]["source"]["key"] == f"b.tar/{classes[0]}/{files[0].stem}"
    assert len(both.lines) == len(files)
    assert "a.parquet': no column 'cls'; it has 'image', 'class'" in both.err
    assert "c.parquet': damaged or not Parquet" in both.err
    assert both.err.splitlines()[-1] == "2 could not be read; all others were"


def test_fields_that_contradict_the_label_or_name_no_rows_are_bad_usage(
    decided: Deployment, fresh: Deployment, pictures: Path, tmp_path: Path
) -> None:
    """Exit 2 before the model is loaded, with the way out."""
    fresh.write(input={"codec": "json", "label": "json:y"}, model={"factory": "no.such:model"})
    (tmp_path / "a.jsonl").write_text("{}")

    contradicted = dugs("scan", "-c", fresh.config, tmp_path / "a.jsonl", "--column", "x", "--label", "z")
    without_rows = dugs("scan", "-c", decided.config, pictures, "--column", "x")

    assert (contradicted.code, without_rows.code) == (2, 2)
    label, column = contradicted.err.splitlines()
    assert label.startswith("dugs: --label: found 'z', which goes into a header, but input.label is json:y.")
    assert column.startswith("dugs: --column: found 'x', which is then the whole value")
    assert "no file here has rows (.jsonl, " in without_rows.err


def test_target_adds_a_value_to_each_decision_and_changes_nothing_else(
    decided: Deployment, pictures: Path
) -> None:
    """Null for what is rejected; one digest for all; verdicts and numbers are those without a target."""
    target = ["--set", f"value.target={pictures}", "--set", "value.mean=raw"]

    ended = dugs("scan", "-c", decided.config, pictures, *target)

    expected = [without_names(dict(event)) for event in decided.events()]
    found = [without_names(event) for event in ended.lines]
    assert [{k: v for k, v in event.items() if not k.startswith("value")} for event in found] == expected
    assert all((event["value"] is None) == (event["type"] == "rejected") for event in found)
    (digest,) = {event["value_target"] for event in found}
    assert re.search(rf"^target .*: 24 records, own value -?0\.\d{{4}}, {digest}$", ended.err, re.MULTILINE)
    nowhere = dugs("scan", "-c", decided.config, pictures, "--set", "value.target=nowhere/")
    assert nowhere.code == 2
    assert nowhere.err.startswith("dugs: value.target: 'nowhere")


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


def after_five_records(monkeypatch: pytest.MonkeyPatch, interrupt: Callable[[], None]) -> None:
    """Let something happen in the middle of a scan."""
    kept = ThresholdTable.take

    def take(table: ThresholdTable, *arguments: Any) -> None:
        kept(table, *arguments)
        if table.judged == 5:
            interrupt()

    monkeypatch.setattr(ThresholdTable, "take", take)


def end_at_once() -> None:
    """As the second Ctrl-C does."""
    raise KeyboardInterrupt


def test_interrupted_scan_leaves_whole_vectors(
    decided: Deployment, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The header tells the rows that were written by then, also where the process ends at once."""
    after_five_records(monkeypatch, end_at_once)
    ended = dugs("scan", "-c", decided.config, pictures, "--vectors", tmp_path / "vectors.npy")

    assert ended.code == 130
    assert np.load(tmp_path / "vectors.npy").shape == (4, 64)


def test_first_interrupt_ends_a_scan_with_what_is_judged(
    decided: Deployment, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The micro-batch is finished; tally and table are of what was judged, and the exit code is 130."""
    after_five_records(monkeypatch, lambda: signal.raise_signal(signal.SIGINT))
    vectors = tmp_path / "vectors.npy"
    batches = ("--set", "input.batch.records=10")
    ended = dugs("scan", "-c", decided.config, pictures, "--vectors", vectors, *batches)

    assert ended.code == 130
    assert len(ended.lines) == len(np.load(vectors)) == 10
    assert "interrupted: 10 records were judged by then" in ended.err
    assert "uniques at other thresholds" in ended.err


@pytest.mark.parametrize("option", ["-o", "--vectors"])
def test_file_that_cannot_be_filled_is_named(decided: Deployment, pictures: Path, option: str) -> None:
    """A full disk shows when the file is flushed, and the system's error has no name then."""
    ended = dugs("scan", "-c", decided.config, pictures, option, "/dev/full")

    assert ended.code == 1
    assert "No space left on device: '/dev/full'" in ended.err


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
