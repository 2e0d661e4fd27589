"""`dugs calibrate --list`: what other thresholds would have kept, exact where the vectors are there."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from dugs_stream.commands.index import replayed
from dugs_stream.config import load_settings
from dugs_stream.core.index.unique_index import UniqueIndex
from dugs_stream.core.selection import select
from dugs_stream.lab.calibrate import other_thresholds
from dugs_stream.lab.calibrate.list_report import list_schema
from dugs_stream.lab.clusters.sources import duplicates
from dugs_stream.state.lock import FolderLock
from tests.support.daemons.deployment import Deployment
from tests.support.terminals.commands import dugs


def report_of(folder: Path, *arguments: str | Path, code: int = 0) -> dict[str, Any]:
    """The report of a run, once it keeps to its schema."""
    ended = dugs("calibrate", *arguments, "--json", folder / "report.json")
    assert ended.code == code, ended.err
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    Draft202012Validator(list_schema()).validate(report)
    return report


def rows_of(report: dict[str, Any]) -> dict[float, dict[str, Any]]:
    """By threshold."""
    return {each["threshold"]: each for each in report["thresholds"]}


def uniques_at(vectors: np.ndarray, threshold: float) -> int:
    """As the daemon would count them."""
    decisions = select(UniqueIndex(vectors.shape[1]), vectors, np.ones(len(vectors)), threshold=threshold)
    return sum(each.sequence is not None for each in decisions)


def test_state_is_judged_again_below_and_the_decisions_tell_above(
    decided: Deployment, tmp_path: Path
) -> None:
    """Beside the process that holds the folder. Each number says what it stands on; the list's own are exact."""
    with FolderLock(decided.folder / "state"):
        report = report_of(tmp_path, "-c", decided.config, "--list", "--threshold", "0.05")

    vectors, events, rows = replayed(decided.settings).vectors, decided.events(), rows_of(report)
    similarities = [event["similarity"] for event in events if event["type"] == "duplicate"]
    assert (report["kind"], report["in_force"], report["records"]) == ("state", 0.5, 24)
    assert (rows[0.5]["uniques"], rows[0.5]["basis"]) == (len(vectors), "exact")
    for threshold in (0.05, 0.3):
        assert rows[threshold]["basis"] == "uniques"
        assert rows[threshold]["of_list"] == uniques_at(vectors, threshold)
    for threshold in (0.9, 0.99):
        below = sum(each < threshold for each in similarities)
        assert (rows[threshold]["basis"], rows[threshold]["uniques"]) == (
            "similarities",
            len(vectors) + below,
        )
    assert report["remarks"] == ["2 decisions are of records without a gradient, which no threshold keeps"]


def test_changelog_says_the_same_as_the_state(decided: Deployment, tmp_path: Path) -> None:
    """For a machine without the folder."""
    state = report_of(tmp_path, "-c", decided.config, "--list")
    changelog = report_of(tmp_path, "-c", decided.config, "--changelog")

    assert (changelog["kind"], changelog["place"]) == ("changelog", "dugs.changelog")
    assert changelog["thresholds"] == state["thresholds"]


def test_vectors_of_a_scan_are_exact_at_every_threshold(
    decided: Deployment, pictures: Path, tmp_path: Path
) -> None:
    """What a scan at that threshold keeps."""
    vectors = tmp_path / "vectors.npy"
    assert dugs("scan", "-c", decided.config, pictures, "--vectors", vectors).code == 0

    report = report_of(tmp_path, "--vectors", vectors, "--threshold", "0.97")

    scanned = dugs("scan", "-c", decided.config, pictures, "--set", "selection.threshold=0.97")
    row = rows_of(report)[0.97]
    assert (report["vectors"], report["in_force"]) == (24, None)
    assert (row["uniques"], row["basis"]) == (
        [event["type"] for event in scanned.lines].count("unique"),
        "exact",
    )


def test_without_decisions_nothing_is_known_above(decided: Deployment, tmp_path: Path) -> None:
    """Neither where there is no such topic, nor where it cannot be read; below all is as before."""
    arguments = ("-c", decided.config, "--list", "--set")
    for topic, why in (("null", "there is no decisions topic"), ("nosuch", "cannot be read")):
        report = report_of(tmp_path, *arguments, f"output.decisions_topic={topic}")
        rows = rows_of(report)

        assert why in report["remarks"][0]
        assert (rows[0.9]["uniques"], report["records"]) == (None, None)
        assert rows[0.3]["uniques"] is not None
    assert "not known" in dugs("calibrate", *arguments, "output.decisions_topic=null").out


def test_long_list_is_judged_again_in_blocks(
    decided: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same numbers."""
    expected = report_of(tmp_path, "-c", decided.config, "--list")
    monkeypatch.setattr(other_thresholds, "_AT_ONCE", 2)

    assert report_of(tmp_path, "-c", decided.config, "--list") == expected


def test_interrupt_keeps_the_thresholds_that_are_done(
    decided: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And names how many."""
    judged = other_thresholds.ManyThresholds.uniques

    def interrupt(many: Any, threshold: float) -> Any:
        if threshold == 0.2:
            signal.raise_signal(signal.SIGINT)
        return judged(many, threshold)

    monkeypatch.setattr(other_thresholds.ManyThresholds, "uniques", interrupt)
    report = report_of(tmp_path, "-c", decided.config, "--list", code=130)

    assert report["interrupted"] == "judging again: 2 of 4 thresholds are done"
    assert sorted(rows_of(report))[:3] == [0.1, 0.2, 0.5]


def test_interrupt_while_decisions_are_read_is_told(
    decided: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their counts are not those of the topic."""
    read = other_thresholds.events

    def interrupt(*arguments: Any) -> Iterator[Any]:
        for number, event in enumerate(read(*arguments)):
            if number == 3:
                signal.raise_signal(signal.SIGINT)
            yield event

    monkeypatch.setattr(other_thresholds, "events", interrupt)
    monkeypatch.setattr(other_thresholds, "_TOLD_EACH", 1)
    report = report_of(tmp_path, "-c", decided.config, "--list", code=130)

    assert report["interrupted"] == "reading dugs.decisions: the first 4 decisions were counted"


def test_decisions_on_an_earlier_list_are_not_counted(
    decided: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list that was begun anew may share its decisions topic, and so may one of another model."""
    arguments = tmp_path, "-c", decided.config, "--list"
    expected = report_of(*arguments)
    grouped = dugs("clusters", "-c", decided.config, "--k", "2").out
    on_list = list(other_thresholds.events(load_settings(decided.config), "decisions"))
    of_another_model = [{**each, "model": {"name": "other", "fingerprint": "sha256:0"}} for each in on_list]

    of_earlier = [{**each, "time": "2000-01-01T00:00:00.000Z"} for each in on_list]

    for module in (other_thresholds, duplicates):
        monkeypatch.setattr(module, "events", lambda *_: [*of_another_model, *on_list, *of_earlier])

    assert report_of(*arguments) == expected
    facts = grouped.partition("method")[0]
    assert dugs("clusters", "-c", decided.config, "--k", "2").out.startswith(facts)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--list", "photos"), "go with --threshold and --json alone"),
        (("--list", "--keep", "5"), "go with --threshold and --json alone"),
        (("--changelog", "--list"), "exclude each other"),
    ],
)
def test_wrong_usage_is_named(decided: Deployment, arguments: tuple[str, ...], part: str) -> None:
    """Exit code 2, and a line that says what to do instead."""
    ended = dugs("calibrate", "-c", decided.config, *arguments)

    assert (ended.code, ended.out) == (2, "")
    assert part in ended.err


def test_nothing_to_judge_again_is_said(fresh: Deployment, tmp_path: Path) -> None:
    """A state that was never saved, an empty changelog, and files that hold no vectors."""
    fresh.drain()
    np.save(tmp_path / "zeros.npy", np.zeros((3, 8), np.float32))
    np.save(tmp_path / "long.npy", np.ones((3, 8), np.float32))
    (tmp_path / "empty.npy").write_bytes(b"")

    for arguments, part in (
        (("-c", fresh.config, "--list"), "hold"),
        (("-c", fresh.config, "--changelog"), "dugs.changelog holds no unique yet"),
        (("--vectors", tmp_path / "zeros.npy"), "holds no vector but zeros"),
        (("--vectors", tmp_path / "long.npy"), "row 0 has the norm"),
        (("--vectors", tmp_path / "empty.npy"), "is not a matrix"),
        (("--vectors", tmp_path / "missing.npy"), "missing.npy cannot be read (No such file or directory)"),
    ):
        ended = dugs("calibrate", *arguments)
        assert (ended.code, ended.out) == (1, ""), arguments
        assert part in ended.err, arguments
