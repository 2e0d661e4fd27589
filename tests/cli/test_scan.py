"""`dugs scan`: the daemon's decisions without a daemon."""

from __future__ import annotations

import json
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
