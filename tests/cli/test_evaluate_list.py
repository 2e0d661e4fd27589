"""`dugs evaluate --list`: the classes of a list that is there, beside random picks of the records behind it."""

from __future__ import annotations

import json
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from dugs_stream.lab.decisions_of_list import ANY_LIST, ListOrigin
from dugs_stream.lab.evaluate import of_list
from dugs_stream.lab.evaluate.list_page import MOST_CLASSES, render_list_page
from dugs_stream.lab.evaluate.list_report import ListReport, list_schema
from dugs_stream.lab.evaluate.of_list import Label, UniquesOfList, beside_random_picks
from dugs_stream.lab.listener import Listener
from dugs_stream.state.lock import FolderLock
from tests.support.daemons.deployment import Deployment
from tests.support.terminals.commands import dugs

ATTACK = '"><script>alert(1)</script>'


def report_of(folder: Path, *arguments: str | Path, code: int = 0) -> dict[str, Any]:
    """The report of a run, once it keeps to its schema."""
    ended = dugs("evaluate", *arguments, "--json", folder / "report.json")
    assert ended.code == code, ended.err
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    Draft202012Validator(list_schema()).validate(report)
    return report


def list_with(
    deployment: Deployment, count: int, labels: dict[Label, int], origin: ListOrigin = ANY_LIST
) -> ListReport:
    """The report on a list of these labels, in front of the decisions of a deployment."""
    found = UniquesOfList("state", "here", origin, count, Counter(labels))
    return beside_random_picks(deployment.settings, found, 0, Listener())


def test_state_is_held_against_the_records_behind_it(decided: Deployment, tmp_path: Path) -> None:
    """Beside the process that holds the folder; the counts are those of the events, and the table shows them."""
    with FolderLock(decided.folder / "state"):
        report = report_of(tmp_path, "-c", decided.config, "--list", "-o", tmp_path)
    ended = dugs("evaluate", "-c", decided.config, "--list")

    events = [event for event in decided.events() if event["type"] not in {"rejected", "skipped"}]
    records = Counter(event["label_name"] for event in events)
    uniques = Counter(event["label_name"] for event in events if event["type"] == "unique")
    assert (report["kind"], report["records"], report["labelled"]) == ("state", len(events), len(events))
    assert {each["label"]: (each["records"], each["uniques"]) for each in report["items"]} == {
        label: (count, uniques[label]) for label, count in records.items()
    }
    assert sum(each["by_chance"] for each in report["items"]) == pytest.approx(uniques.total())
    assert [each["records"] for each in report["items"]] == sorted(records.values())
    assert (report["classes"], report["classes_found"]) == (3, len(uniques))
    assert 1 <= report["at_random"]["low"] <= report["at_random"]["mean"] <= report["at_random"]["high"] <= 3
    assert f"classes among the uniques {len(uniques)} of 3" in " ".join(ended.out.split())
    assert json.loads(dugs("schema", "evaluate-list").out) == list_schema()
    assert (tmp_path / "evaluate.html").read_text().count("<svg") == 1


def test_changelog_says_the_same_as_the_state_and_a_seed_repeats_it(
    decided: Deployment, tmp_path: Path
) -> None:
    """For a machine without the folder."""
    state = report_of(tmp_path, "-c", decided.config, "--list", "--seed", "3")
    changelog = report_of(tmp_path, "-c", decided.config, "--changelog", "--seed", "3")

    assert (changelog["kind"], changelog["place"]) == ("changelog", "dugs.changelog")
    assert {**changelog, "kind": "state", "place": state["place"]} == state


def test_random_picks_are_those_of_all_records(decided: Deployment) -> None:
    """As many picks as there are records hold each class; a single one holds one."""
    events = Counter(event["label_name"] for event in decided.events() if event["type"] == "duplicate")
    alone = list_with(decided, 1, {(min(events), "given"): 1}).at_random

    assert alone is not None
    assert (alone.mean, alone.low, alone.high) == (1.0, 1, 1)


def test_uniques_that_came_after_the_snapshot_and_their_duplicates_are_left_out(decided: Deployment) -> None:
    """A daemon that runs is ahead of its folder: a class that it found since is not one that the list lacks."""
    of_first = [
        event
        for event in decided.events()
        if event["type"] == "no_gradient"
        or (event["type"] == "duplicate" and event["nearest"]["sequence"] == 0)
    ]
    judged = [event for event in decided.events() if event["type"] in {"duplicate", "no_gradient"}]

    report = list_with(decided, 1, {("bar", "given"): 1})

    assert report.records == 1 + len(of_first) < 1 + len(judged)
    assert not any("does not hold" in each for each in report.remarks)


def test_given_labels_outrank_predicted_ones(decided: Deployment) -> None:
    """The decisions here have given labels: uniques without one are left out, and said."""
    report = list_with(decided, 5, {("bar", "given"): 2, ("disc", "predicted"): 2, ("", ""): 1})

    assert (report.labels, report.classes_found) == ("given", 1)
    assert "3 uniques have no given label and are left out" in report.remarks


def test_list_without_labels_or_with_predicted_ones_says_so(decided: Deployment) -> None:
    """No decision is of the model named here: only the uniques themselves are counted."""
    without = list_with(decided, 2, {("", ""): 2}, ListOrigin("sha256:another", ""))
    predicted = list_with(decided, 2, {("bar", "predicted"): 2}, ListOrigin("sha256:another", ""))

    assert (without.items, without.at_random, without.labels) == ([], None, None)
    assert "no record has a label" in without.remarks[0]
    assert "the model's own predictions" in predicted.remarks[0]
    assert "does not hold the decisions on 2 uniques" in predicted.remarks[1]
    assert "classes among" not in render_list_page(without)


def test_labels_are_text_on_the_page_and_their_number_is_bounded() -> None:
    """A label is what a record says."""
    item = {"label": ATTACK, "records": 2, "uniques": 1, "by_chance": 0.5}
    report = ListReport.model_validate(
        {
            "kind": "state", "place": ATTACK, "uniques": 1, "records": 2, "labelled": 2, "labels": "given",
            "classes": 1, "classes_found": 1, "at_random": None, "items": [item] * (MOST_CLASSES + 5),
            "remarks": [ATTACK], "interrupted": None,
        }
    )  # fmt: skip
    page = render_list_page(report)

    assert "<script" not in page
    assert page.count("<tr>") == MOST_CLASSES + 1
    assert "5 more frequent classes are left out" in page


def test_interrupt_keeps_what_was_counted(
    decided: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And names how much."""
    judged = of_list.decisions_of_list

    def interrupted(*arguments: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return judged(*arguments)

    monkeypatch.setattr(of_list, "_TOLD_EACH", 4)
    monkeypatch.setattr(of_list, "decisions_of_list", interrupted)
    report = report_of(tmp_path, "-c", decided.config, "--list", code=130)

    assert report["interrupted"] == "reading dugs.decisions: the first 4 decisions were counted"


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (("--list", "photos"), 2, "go with --seed, --json and -o alone"),
        (("--changelog", "--draws", "5"), 2, "go with --seed, --json and -o alone"),
        (("--changelog", "--list"), 2, "exclude each other"),
        (("--list", "--set", "output.decisions_topic=null"), 2, "no decisions topic is configured"),
        (("--list", "--set", "state.dir=nowhere"), 1, "nowhere"),
    ],
)
def test_what_cannot_be_told_is_refused(
    decided: Deployment, arguments: tuple[str, ...], code: int, part: str
) -> None:
    """A line that says what to do instead."""
    ended = dugs("evaluate", "-c", decided.config, *arguments)

    assert (ended.code, ended.out) == (code, "")
    assert part in ended.err


def test_empty_list_is_said(fresh: Deployment) -> None:
    """A daemon that has seen no record."""
    fresh.drain()
    ended = dugs("evaluate", "-c", fresh.config, "--changelog")

    assert (ended.code, ended.out) == (1, "")
    assert "dugs.changelog holds no unique yet" in ended.err
