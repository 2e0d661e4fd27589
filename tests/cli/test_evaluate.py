"""`dugs evaluate`: uniques of one's own data beside other picks, from one command."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from dugs_stream.lab.clusters import extra
from dugs_stream.lab.drawn_records import Source
from dugs_stream.lab.evaluate.plan import Plan
from dugs_stream.lab.evaluate.report import report_schema
from dugs_stream.lab.evaluate.viewing import view_records
from dugs_stream.lab.evaluate.views import Kind
from dugs_stream.lab.listener import Listener
from tests.support.daemons.deployment import Deployment
from tests.support.models.text import LINES, save_gpt2, save_tokenizer
from tests.support.terminals.commands import dugs

QUICK = ("--draws", "2", "--size", "4", "--layers", "1", "--losses", "label,pseudo")


def report_of(folder: Path, *arguments: str | Path) -> dict[str, Any]:
    """The report of a run that must succeed, once it keeps to its schema."""
    ended = dugs("evaluate", *arguments, "--json", folder / "report.json", *QUICK)
    assert ended.code == 0, ended.err
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    Draft202012Validator(report_schema()).validate(report)
    return report


def without_time(report: dict[str, Any]) -> dict[str, Any]:
    """What the same seed must repeat."""
    return {name: value for name, value in report.items() if name not in {"seconds", "peak_memory_bytes"}}


def test_folder_is_evaluated_with_table_report_and_page(
    decided: Deployment, pictures: Path, tmp_path: Path
) -> None:
    """Each selection is a row of the table; both files are named; the same seed repeats it."""
    ended = dugs(
        "evaluate",
        "-c",
        decided.config,
        pictures,
        "-o",
        tmp_path / "out",
        "--json",
        tmp_path / "1.json",
        *QUICK,
    )
    again = report_of(tmp_path, "-c", decided.config, pictures)

    assert ended.code == 0, ended.err
    report = json.loads((tmp_path / "1.json").read_text())
    assert without_time(report) == without_time(again)
    assert report["source"]["records"] == 24
    assert report["source"]["classes"] == ["bar", "disc", "square"]
    assert {"gradient: label, last 1", "gradient: pseudo, last 1", "random"} <= set(report["selections"])
    assert all(each.replace("gradient:", "∇") in ended.out for each in report["selections"])
    assert {each["at"] for each in report["copies"]} == {"proposed", "configured"}
    assert all(each["caught"]["exact"] == 1.0 for each in report["copies"])
    assert set(report["copies"][0]["copies"]) == {"exact", "JPEG", "brightness", "crop"}
    assert "suspect (a confident other prediction" in ended.out
    assert any("2 records were rejected (2 undecodable)" in each for each in report["remarks"])
    assert str(tmp_path / "out" / "evaluate.html") in ended.err
    assert (tmp_path / "out" / "evaluate.html").read_text().count("<svg") >= 3


def test_without_labels_only_what_needs_none_is_told(
    decided: Deployment, pictures: Path, tmp_path: Path
) -> None:
    """Files in no class folder: the command still ends well, and says what is missing."""
    flat = tmp_path / "flat"
    flat.mkdir()
    for place, path in enumerate(sorted(pictures.rglob("0*.png"))):
        shutil.copy(path, flat / f"{place}.png")
    ended = dugs("evaluate", "-c", decided.config, flat, "--json", "/dev/full", *QUICK)
    report = report_of(tmp_path, "-c", decided.config, flat)
    as_set = ("--set", "gradient.loss=pseudo", "--set", "gradient.layers={names: ['4']}")
    configured = report_of(tmp_path, "-c", decided.config, flat, *as_set)

    assert ended.code == 1
    assert "Copies caught at a τ" in ended.out
    assert "/dev/full" in ended.err
    assert ended.out.count("note: ") <= 4
    assert "note: gradient.loss is label and no record has one" in ended.out
    (row,) = [
        each
        for each in configured["copies"]
        if (each["selection"], each["at"]) == ("gradient: pseudo, configured layers", "configured")
    ]
    assert row["caught"]["exact"] == 1.0
    assert configured["setup"]["configured_gradient"] == "pseudo, configured layers"
    assert not any("as configured" in each for each in configured["remarks"])
    assert "note: no labels: " in ended.out
    assert report["source"]["classes"] == []
    assert "gradient: pseudo, last 1" in report["selections"]
    assert "gradient: label, last 1" not in report["selections"]
    assert all(each["mean"] is None for each in report["measures"])


def test_first_record_without_a_label_does_not_speak_for_the_others(
    decided: Deployment, pictures: Path, tmp_path: Path
) -> None:
    """Those without one are left out and counted, in whichever order the records come."""
    mixed = tmp_path / "mixed"
    for path in sorted(pictures.rglob("0*.png")):
        named = (
            mixed / path.parent.name / path.name
            if path.name == "00.png"
            else mixed / f"{path.parent.name}{path.name}"
        )
        named.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, named)
    plan = Plan(draws=1, layers=(1,), losses=("label",), scalings=())

    viewed = view_records(decided.settings, Source((mixed,)), plan, Listener())

    labels = viewed.views.labels[viewed.views.rows(Kind.RECORD)]
    assert sorted(labels) == [0, 1, 2]
    assert any("have no label and were left out" in each for each in viewed.remarks)


def test_without_paths_the_topic_is_read(decided: Deployment, tmp_path: Path) -> None:
    """As the daemon reads it, with the labels of its headers, and with all layers of the settings."""
    report = report_of(tmp_path, "-c", decided.config, "--set", "gradient.loss=pseudo")

    assert report["source"]["place"] == decided.settings.input.topic
    assert len(report["source"]["classes"]) == 3


def test_configured_layers_and_their_number_are_one_row(
    decided: Deployment, pictures: Path, tmp_path: Path
) -> None:
    """That of the settings' gradient."""
    layers = "--set", "gradient.layers.last=1", "--layers", "configured,1", "--json", tmp_path / "report.json"
    ended = dugs("evaluate", "-c", decided.config, pictures, *QUICK[:4], "--losses", "label", *layers)

    assert ended.code == 0, ended.err
    report = json.loads((tmp_path / "report.json").read_text())
    plain = [each for each in report["selections"] if each.startswith("gradient: label")]
    assert plain[0] == f"gradient: {report['setup']['configured_gradient']}" == "gradient: label, last 1"
    assert not any("configured" in each for each in plain)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--layers", "0"), "is not a number of last layers"),
        (("--losses", "nosuch"), "is not one of label, pseudo"),
        (("--rare-share", "2"), "is not a share"),
        (("--rare-share", "few"), "is not a share"),
        (("--wrong-share", "nan"), "is not a number"),
        (("--rare", "nosuch"), "no record has as its class"),
        (
            ("--set", "gradient.loss=regression", "--set", "input.label_type=float32"),
            "needs labels that are not one class a record",
        ),
    ],
)
def test_wrong_usage_is_named(
    decided: Deployment, pictures: Path, arguments: tuple[str, ...], said: str
) -> None:
    """Exit code 2, and a line that says what to do instead."""
    ended = dugs("evaluate", "-c", decided.config, pictures, *QUICK[:4], *arguments)

    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err


def test_folder_without_a_readable_record_is_an_error(decided: Deployment, tmp_path: Path) -> None:
    """With the reason of the rejections."""
    (tmp_path / "disc").mkdir()
    (tmp_path / "disc" / "0.png").write_bytes(b"nothing")
    ended = dugs("evaluate", "-c", decided.config, tmp_path)

    assert (ended.code, ended.out) == (1, "")
    assert "1 records were rejected (1 undecodable)" in ended.err


def test_missing_extra_says_what_to_install(decided: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is read."""
    monkeypatch.setattr(extra, "find_spec", lambda _name: None)

    ended = dugs("evaluate", "-c", decided.config)
    assert (ended.code, ended.out) == (2, "")
    assert "dugs evaluate: it needs scikit-learn" in ended.err


def interrupt_after(records_done: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGINT before the batch of eight is viewed with which so many records are done."""
    from dugs_stream.lab.evaluate import records, viewing  # noqa: PLC0415  changed for this test alone

    class Interrupting(viewing.Decoding):
        def batches(self, records: Any) -> Any:
            for done, batch in super().batches(records):
                if done > records_done:
                    signal.raise_signal(signal.SIGINT)
                yield done, batch

    monkeypatch.setattr(viewing, "Decoding", Interrupting)
    monkeypatch.setattr(records, "_FITTED_ON", 8)


def test_interrupt_keeps_what_is_done(
    decided: Deployment, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The records viewed by then are measured, the batch in work is left out, and the end says so with 130."""
    interrupt_after(16, monkeypatch)
    ended = dugs(
        "evaluate", "-c", decided.config, pictures, "--json", tmp_path / "report.json",
        "--set", "input.batch.records=8", *QUICK,
    )  # fmt: skip

    report = json.loads((tmp_path / "report.json").read_text())
    assert ended.code == 130, ended.err
    assert report["interrupted"] == "viewing the records: 16 of 26 were viewed"
    assert report["interrupted"] in ended.err
    assert 0 < report["source"]["records"] <= 16
    assert len(report["selections"]) > 5


def test_interrupt_before_a_record_is_viewed_leaves_nothing_and_says_so(
    decided: Deployment, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no report of no record."""
    interrupt_after(0, monkeypatch)
    ended = dugs(
        "evaluate", "-c", decided.config, pictures, "--json", tmp_path / "report.json", *QUICK,
    )  # fmt: skip

    assert (ended.code, ended.out) == (130, "")
    assert ended.err.splitlines()[-1] == "stopped before a record was viewed, so there is nothing to tell"
    assert not (tmp_path / "report.json").exists()


def test_texts_of_a_language_model_are_evaluated_by_its_own_loss(tmp_path: Path) -> None:
    """Of mixed lengths, with classes beside the loss: one gradient for each choice of layers, and no logits of classes."""
    model = save_gpt2(save_tokenizer(tmp_path / "model"))
    for place in range(24):
        (tmp_path / "texts" / "ab"[place % 2]).mkdir(parents=True, exist_ok=True)
        (tmp_path / "texts" / "ab"[place % 2] / f"{place}.txt").write_text(
            f"{LINES[place % 4]} {place} " * (1 + place % 3)
        )
    deployment = Deployment(
        tmp_path / "deployment",
        input={"codec": {"type": "text", "tokenizer": str(model)}, "classes": ["a", "b"]},
        model={
            "factory": "dugs_stream.models.huggingface:build",
            "kwargs": {"folder": str(model), "task": "causal_lm"},
        },
        gradient={"loss": "causal_lm"},
    )
    ended = dugs(
        "evaluate",
        "-c",
        deployment.config,
        tmp_path / "texts",
        "--json",
        tmp_path / "report.json",
        *QUICK[:-2],
    )
    assert ended.code == 0, ended.err
    report = json.loads((tmp_path / "report.json").read_text())

    by_selection = {
        each["selection"]: each for each in report["measures"] if each["measure"] == "classes covered"
    }
    assert by_selection["gradient: causal_lm, last 1"]["mean"] is not None
    assert by_selection["embedding, same rule"]["mean"] is not None
    assert "logits of classes" in by_selection["highest entropy"]["note"]
    assert set(report["copies"][0]["copies"]) == {"exact", "word dropped", "lower case"}
    refused = dugs("evaluate", "-c", deployment.config, tmp_path / "texts", *QUICK)
    assert (refused.code, refused.out) == (2, "")
    assert "these are for logits of classes" in refused.err
