"""`dugs calibrate`: thresholds, k and layers from a sample, and the configuration that it leaves."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from dugs_stream.config import load_settings
from dugs_stream.lab.calibrate.report import report_schema
from dugs_stream.lab.clusters import extra
from tests.support.daemons.deployment import Deployment
from tests.support.terminals.commands import dugs


def report_of(folder: Path, *arguments: str | Path, code: int = 0) -> dict[str, Any]:
    """The report of a run, once it keeps to its schema."""
    ended = dugs("calibrate", *arguments, "--json", folder / "report.json")
    assert ended.code == code, ended.err
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    Draft202012Validator(report_schema()).validate(report)
    return report


def said(report: dict[str, Any], part: str) -> bool:
    """Whether a remark says it."""
    return any(part in each for each in report["remarks"])


def test_topic_is_held_against_every_threshold_beside_the_daemon(decided: Deployment, tmp_path: Path) -> None:
    """Without PATHS; at the configured threshold it keeps what the daemon kept, and the group does not move."""
    before = {path: path.stat().st_mtime_ns for path in decided.folder.rglob("*.f32")}

    report = report_of(tmp_path, "-c", decided.config, "--k", "16", "--layers", "1", "--layers", "nosuch*")

    uniques = len(decided.events("unique"))
    assert report["sample"]["kind"] == "topic"
    assert (report["sample"]["records"], report["sample"]["drawn"], report["sample"]["rejected"]) == (
        24,
        26,
        2,
    )
    assert report["configured"]["threshold"] == 0.5
    assert report["configured"]["uniques"] == uniques
    counts = {each["threshold"]: each["uniques"] for each in report["curve"]}
    assert counts[0.5] == uniques
    assert counts[1.0] == max(counts.values())
    assert [each["dimension"] for each in report["dimensions"]] == [16, 64]
    assert report["dimensions"][0]["error"] > report["dimensions"][1]["error"]
    assert report["dimensions"][1]["pairs"] == 24 * 23 / 2
    configured, last, refused = report["layers"]
    assert (configured["choice"], configured["is_configured"]) == ("{last: 2}", True)
    assert (last["choice"], len(last["layers"])) == ("{last: 1}", 1)
    assert 0.5 < configured["separation"] <= 1
    assert "nosuch*" in refused["failed"]
    assert {path: path.stat().st_mtime_ns for path in decided.folder.rglob("*.f32")} == before


def test_page_and_configuration_are_left_and_the_daemon_takes_it(
    decided: Deployment, pictures: Path, tmp_path: Path
) -> None:
    """The user's own settings and --set with the chosen threshold; nothing of the environment is written.

    The configuration comes through a pipe, which can be read once.
    """
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe)
    writer = Thread(target=lambda: pipe.write_text(decided.config.read_text()), daemon=True)
    writer.start()
    ended = dugs(
        *("calibrate", "-c", pipe, pictures, "--accept", "0.25", "--quick", "-o", tmp_path / "new"),
        *("--set", "input.prefetch=1"),
        environ={"DUGS_HTTP__PORT": "9999"},
    )

    written = tmp_path / "new" / "calibrated.yaml"
    assert ended.code == 0, ended.err
    assert str(written) in ended.err
    settings = load_settings(written, environ={})
    own = yaml.safe_load(decided.config.read_text())
    new = yaml.safe_load(written.read_text())
    assert new.pop("selection") == {"threshold": settings.selection.threshold}
    assert new["input"].pop("prefetch") == 1
    own.pop("selection")
    assert new == own
    assert dugs("check", "-c", written).code == 0
    scanned = dugs("scan", "-c", written, pictures)
    kept = [event["type"] for event in scanned.lines].count("unique")
    assert abs(kept - 0.25 * 24) <= 2, "another order of files changes it by little"
    page = (tmp_path / "new" / "calibrate.html").read_text()
    assert page.count('<div class="pair">') >= 2
    assert "data:image/png;base64," in page
    assert "<script" not in page


def test_wishes_are_proposals_in_their_order_and_the_first_is_chosen(
    decided: Deployment, pictures: Path, tmp_path: Path
) -> None:
    """Shares, numbers and thresholds; each with what it keeps, and what as many other records are expected to have."""
    report = report_of(
        *(tmp_path, "-c", decided.config, pictures, "--quick"),
        *("--accept", "0.5", "--keep", "6", "--keep", "24", "--threshold", "0.9"),
    )

    wishes = [(each["wish"], each["uniques"]) for each in report["proposals"]]
    assert [name for name, _ in wishes[:3]] == ["accept 0.5", "keep 6", "keep 24"]
    for proposal, wished in zip(report["proposals"], (12, 6, 24), strict=False):
        assert proposal["expected"] == pytest.approx(wished, abs=1)
        assert proposal["uniques"] == pytest.approx(wished, abs=2)
        assert 0 <= proposal["low"] <= proposal["expected"] <= proposal["high"] <= 24
    assert wishes[3][0] == "τ = 0.9"
    assert [name for name, _ in wishes[4:]] == ["plateau of the curve", "knee of the curve"]
    assert report["chosen"] == report["proposals"][0]
    assert all(each["is_met"] for each in report["proposals"])
    assert report["proposals"][2]["classes"] == 3
    assert report["chosen"]["share"] == report["chosen"]["uniques"] / 24
    at = report["chosen"]["threshold"]
    assert all(call["similarity"] >= at for call in report["closest"]["duplicates"])
    assert all(call["similarity"] < at for call in report["closest"]["uniques"])
    assert (report["dimensions"], report["layers"]) == ([], [])


def test_wish_for_more_records_than_the_sample_is_called_an_estimate(
    decided: Deployment, pictures: Path, tmp_path: Path
) -> None:
    """In the report, and in the tables."""
    arguments = ("-c", decided.config, pictures, "--quick", "--keep", "30", "--of", "500")
    report = report_of(tmp_path, *arguments, "-o", tmp_path)

    assert report["chosen"]["of"] == 500
    assert report["chosen"]["uniques"] < 24
    assert said(report, "numbers for 500 records are estimates")
    assert (report["chosen"]["low"], report["chosen"]["high"]) == (None, None)
    assert "<th>of 500 others</th>" in (tmp_path / "calibrate.html").read_text()
    full = dugs("calibrate", *arguments, "--json", "/dev/full")
    assert "of 500" in full.out
    assert full.code == 1
    assert "No space left on device: '/dev/full'" in full.err


def test_wish_for_fewer_records_than_the_sample_is_answered_for_those(
    decided: Deployment, pictures: Path, tmp_path: Path
) -> None:
    """A column says what they come to, and a wish that cannot be met is held against them."""
    arguments = ("-c", decided.config, pictures, "--quick", "--accept", "0.01", "--of", "12", "-o", tmp_path)
    ended = dugs("calibrate", *arguments)

    assert "of 12" in ended.out
    assert "of 12 records from 2 to 12 are kept" in ended.out
    assert "<th>of 12 others</th>" in (tmp_path / "calibrate.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--quick", "--k", "64"), "--quick compares neither"),
        (("--k", "100000000"), "is not in the range 2<=x<=262144"),
        (("--layers", "0"), "not a choice of layers"),
        (("--layers", ","), "not a choice of layers"),
        (("--accept", "0"), "--accept"),
        (("--accept", "1.5"), "--accept"),
        (("--quick", "--keep", "25"), "25 uniques of 24 records cannot be"),
        (("--records", "0"), "--records"),
        (("--quick", "--threshold", "nan"), "'nan' is not a number"),
        (("--quick", "--accept", "nan"), "'nan' is not a number"),
    ],
)
def test_wrong_usage_is_named(decided: Deployment, arguments: tuple[str, ...], part: str) -> None:
    """Exit code 2, and a line that says what to do instead."""
    ended = dugs("calibrate", "-c", decided.config, *arguments)

    assert (ended.code, ended.out) == (2, "")
    assert part in ended.err


def test_samples_that_say_little_are_called_so(decided: Deployment, pictures: Path, tmp_path: Path) -> None:
    """One record; copies of one picture; one class; and nothing at all without a label."""
    for number in range(6):
        (tmp_path / "copies" / "disc").mkdir(parents=True, exist_ok=True)
        shutil.copy(pictures / "disc" / "01.png", tmp_path / "copies" / "disc" / f"{number}.png")
    (tmp_path / "one" / "disc").mkdir(parents=True)
    shutil.copy(pictures / "disc" / "01.png", tmp_path / "one" / "disc")
    config = ("-c", decided.config)

    copies = report_of(tmp_path, *config, tmp_path / "copies", "--accept", "0.5")
    assert said(copies, "all records have the same gradient")
    assert said(copies, "no threshold meets 'accept 0.5'")
    assert said(copies, "all labels are 'disc'")
    assert (copies["knee"], copies["chosen"]["uniques"], copies["chosen"]["is_met"]) == (None, 1, False)
    assert copies["layers"][0]["separation"] is None

    one = report_of(tmp_path, *config, tmp_path / "one")
    assert said(one, "1 record is few")
    assert (one["configured"]["share"], one["closest"]["duplicates"]) == (1.0, [])
    assert said(one, "there are too few records")

    alone = report_of(tmp_path, *config, "--set", "gradient.loss=pseudo", pictures / "disc", "--quick")
    assert alone["sample"]["labels"] == "predicted"
    assert said(alone, "labels are the model's own predictions")

    refused = dugs("calibrate", *config, pictures / "disc")
    assert (refused.code, refused.out) == (1, "")
    assert "No record of" in refused.err
    assert "8 label_missing" in refused.err


def test_sample_without_any_repeat_says_so(decided: Deployment, pictures: Path, tmp_path: Path) -> None:
    """A record of each of two classes: from the noise floor on every threshold keeps both."""
    for name in ("bar", "disc"):
        (tmp_path / "two" / name).mkdir(parents=True)
        shutil.copy(pictures / name / "01.png", tmp_path / "two" / name)

    report = report_of(tmp_path, "-c", decided.config, tmp_path / "two", "--quick")

    assert said(report, "no record is similar to another")


def test_newest_records_of_a_topic_may_have_no_gradient(decided: Deployment) -> None:
    """Then the error counts the reasons and quotes the first."""
    ended = dugs("calibrate", "-c", decided.config, "--records", "2", "--quick")

    assert (ended.code, ended.out) == (1, "")
    assert "No record of dugs.samples has a gradient to study. Found: 2 undecodable." in ended.err


def test_missing_extra_says_what_to_install_and_what_does_without(
    decided: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is read; thresholds alone need nothing."""
    monkeypatch.setattr(extra, "find_spec", lambda _name: None)

    ended = dugs("calibrate", "-c", decided.config)
    assert (ended.code, ended.out) == (2, "")
    assert "dugs calibrate: it needs scikit-learn" in ended.err
    assert "--quick does without" in ended.err
    assert dugs("calibrate", "-c", decided.config, "--quick").code == 0


@pytest.mark.parametrize(
    ("stage", "cut"),
    [
        ("Projecting", "projecting the sample: 16 of 26"),
        ("Comparing k", "comparing k"),
        ("Comparing layers", "comparing layers: 0 of 4"),
    ],
)
def test_interrupt_keeps_what_is_done(
    decided: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, cut: str
) -> None:
    """The records projected by then, or the thresholds without the rest; the end says so with 130."""
    interrupts = signal.getsignal(signal.SIGINT)

    def interrupting(function: Any) -> Any:
        def wrapped(settings: Any, *arguments: Any) -> Any:
            listener = next(each for each in arguments if hasattr(each, "wants_stop"))
            told = listener.stage

            def tell(text: str) -> None:
                told(text)
                if text.startswith(stage):
                    signal.raise_signal(signal.SIGINT)

            object.__setattr__(listener, "stage", tell)
            return function(settings, *arguments)

        return wrapped

    from dugs_stream.lab.calibrate import run  # noqa: PLC0415  changed for this test alone

    monkeypatch.setattr(run, "draw_records", interrupting(run.draw_records))
    ended = dugs(
        *("calibrate", "-c", decided.config, "--json", tmp_path / "report.json", "--k", "16"),
        *("--set", "input.batch.records=16"),
    )

    report = json.loads((tmp_path / "report.json").read_text())
    assert ended.code == 130, ended.err
    assert report["interrupted"].startswith(cut)
    assert cut in ended.err
    assert str(tmp_path / "report.json") in ended.err
    assert len(report["curve"]) > 50
    assert signal.getsignal(signal.SIGINT) is interrupts


def test_names_of_records_are_text_on_the_page_and_on_the_terminal(
    decided: Deployment, pictures: Path, tmp_path: Path
) -> None:
    """Markup in a file's name or a folder's, and controls that a terminal would obey."""
    hostile = tmp_path / "<script>alert(1)<" / "disc"
    hostile.mkdir(parents=True)
    for number in range(4):
        name = f"\x1b[31m<img src=x onerror=alert({number})>.png"
        shutil.copy(pictures / "disc" / f"0{number}.png", hostile / name)

    ended = dugs("calibrate", "-c", decided.config, hostile.parent, "--quick", "-o", tmp_path / "out")

    page = (tmp_path / "out" / "calibrate.html").read_text()
    assert ended.code == 0, ended.err
    assert "\x1b[31m<img" not in ended.out
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;" in page
    assert "default-src 'none'" in page
    assert not re.search(r"(?:src|href)=\"(?!#|data:)", page)


def test_configured_target_gives_a_second_axis(decided: Deployment, pictures: Path, tmp_path: Path) -> None:
    """Each record's value is the one of a scan; the page draws it, and without a target there is none."""
    target = ("--set", f"value.target={pictures}")
    arguments = ("-c", decided.config, pictures, "--quick", "--threshold", "0.5")

    report = report_of(tmp_path, *arguments, *target, "-o", tmp_path)

    value = report["value"]
    scanned = dugs("scan", "-c", decided.config, pictures, *target).lines
    expected = sorted(event["value"] for event in scanned if event.get("value") is not None)
    assert sorted(each["value"] for each in value["records"]) == expected
    assert -1 <= value["own_value"] <= 1
    kept = value["unique_and_good"] + value["unique_and_not"]
    assert kept == report["chosen"]["uniques"]
    assert kept + value["duplicate_and_good"] + value["duplicate_and_not"] == 24
    assert value["digest"] == next(event["value_target"] for event in scanned if event["value"] is not None)
    assert "New and good" in (tmp_path / "calibrate.html").read_text()
    assert report_of(tmp_path, *arguments)["value"] is None
