"""`dugs scan`: the daemon's decisions without a daemon."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

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


def test_decisions_go_into_the_file_that_is_named(
    decided: Deployment, pictures: Path, tmp_path: Path
) -> None:
    """Its folder is made, stdout stays empty, and the tally goes to stderr."""
    output = tmp_path / "new" / "decisions.jsonl"

    ended = dugs("scan", "-c", decided.config, pictures, "-o", output)

    verdicts = Counter(json.loads(line)["type"] for line in output.read_text().splitlines())
    assert (ended.code, ended.out) == (0, "")
    assert verdicts.total() == 26
    assert sorted(ended.err.strip().split(", ")) == sorted(
        f"{count} {verdict}" for verdict, count in verdicts.items()
    )


def test_files_in_the_folder_itself_have_no_class(decided: Deployment, pictures: Path) -> None:
    """Where the loss needs a label, that is said of each; with the model's own prediction they are judged."""
    refused = dugs("scan", "-c", decided.config, pictures / "disc")
    judged = dugs("scan", "-c", decided.config, pictures / "disc", "--set", "gradient.loss=pseudo")

    assert {event["reason"] for event in refused.lines} == {"label_missing"}
    assert {event["label_source"] for event in judged.lines} == {"predicted"}


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
    tally, passed_over, failure, count = ended.err.splitlines()
    assert tally == expected.err.strip()
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
