"""The demo on a few dozen digits: real training, the real daemon, and the files it leaves."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dugs_stream.cli.demo import show_demo
from dugs_stream.commands.tail import events
from dugs_stream.config import load_settings
from dugs_stream.errors import LogUnavailableError
from dugs_stream.lab.demo import demo
from dugs_stream.lab.demo.demo import DemoResult, run_demo, summarise
from dugs_stream.lab.demo.digits import Digits, Split
from dugs_stream.lab.demo.imagenette import imagenette_command
from dugs_stream.lab.demo.stream import StreamResult
from dugs_stream.lab.demo.training import Plan
from dugs_stream.records import Verdict
from tests.support.pages.events import duplicate_event, unique_event
from tests.support.terminals.commands import logging_of_its_own

QUICK = Plan(held_out=4, batch=8, epochs=1, minimum=0.0)
SILENT = (lambda _text: None, lambda _done, _total, _note: None)


@dataclass
class Heard:
    """Keeps everything the demo announces."""

    stages: list[str] = field(default_factory=list)
    moved: list[tuple[int, int, str]] = field(default_factory=list)

    def progress(self, done: int, total: int, note: str) -> None:
        self.moved.append((done, total, note))


def stripes(count: int, first_row: int) -> Digits:
    """Pictures of three classes: one bright stripe, left, middle or right."""
    images = np.zeros((count, 28, 28), dtype=np.uint8)
    labels = np.arange(count, dtype=np.int64) % 3
    for image, label in zip(images, labels, strict=True):
        image[:, 9 * label : 9 * label + 9] = 255
    return Digits(images, labels, first_row + np.arange(count, dtype=np.int64))


SPLIT = Split(train=stripes(12, 0), stream=stripes(18, 12))


@pytest.fixture(scope="module")
def logging_as_before() -> Iterator[None]:
    """The demo sets up the logging of its process."""
    with logging_of_its_own():
        yield


@dataclass(frozen=True)
class Finished:
    """A finished demo and its announcements."""

    result: DemoResult
    heard: Heard


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, logging_as_before: None) -> Finished:
    """One run for all tests below, since it builds the full AlexNet three times."""
    heard = Heard()
    out = tmp_path_factory.mktemp("demo") / "new" / "folder"
    return Finished(run_demo(out, heard.stages.append, heard.progress, plan=QUICK, digits=SPLIT), heard)


def decisions(finished: Finished, run: str) -> list[Mapping[str, Any]]:
    """Every event of one of the two streams, off the log that it leaves."""
    folder = finished.result.files.weights.parent / "work" / run
    overrides = [f"log.embedded.path={folder / 'log.db'}", "output.decisions_topic=dugs.decisions"]
    return list(events(load_settings(None, overrides, environ={}), "decisions"))


def test_stream_runs_with_labels_and_again_without(finished: Finished) -> None:
    """Both runs judge the same records by the same trained weights, and only one of them is told the labels."""
    given, unlabelled = decisions(finished, "given"), decisions(finished, "unlabelled")

    assert [event["id"] for event in given] == [event["id"] for event in unlabelled]
    assert {event["label_source"] for event in given} == {"given"}
    assert {event["label_source"] for event in unlabelled} == {"predicted"}
    assert len({event["model"]["fingerprint"] for event in given}) == 1


def test_streamed_digits_are_not_those_trained_on(finished: Finished) -> None:
    """The model was not trained on the stream."""
    keys = [event["source"]["key"] for event in decisions(finished, "given")]

    assert keys == [f"digit-{row:04d}" for row in range(12, 30)]


def test_summary_counts_every_record_and_the_classes_of_the_uniques(finished: Finished) -> None:
    """Three classes are streamed; those among the uniques are counted by their true labels."""
    summary = finished.result.summary
    lines = finished.result.files.uniques.read_text(encoding="utf-8").splitlines()
    labels = {json.loads(line)["label"] for line in lines}

    assert summary.run.records == 18
    assert summary.run.verdicts[Verdict.REJECTED] == 0
    assert (summary.run.classes, summary.run.classes_found) == (3, len(labels))
    assert (summary.run.layers, summary.run.dimension) == (("classifier.4", "classifier.6"), 2048)
    assert summary.random.size == summary.run.uniques
    assert summary.records_per_second > 0


def test_uniques_are_left_as_the_daemons_own_events_in_sequence(finished: Finished) -> None:
    """One JSON object a line, without a hole."""
    lines = finished.result.files.uniques.read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines]

    assert [event["sequence"] for event in events] == list(range(finished.result.summary.run.uniques))
    assert {event["type"] for event in events} == {"unique"}
    assert events[0]["source"]["key"] == "digit-0012"


def test_pictures_of_both_kinds_are_left(finished: Finished) -> None:
    """The sheets are images, and the gallery shows the digits themselves."""
    files = finished.result.files
    for sheet in (files.contact_sheet, files.contact_sheet_dark):
        with Image.open(sheet) as picture:
            assert (picture.format, picture.width) == ("PNG", 1840)

    carried = files.gallery.read_text(encoding="utf-8").split('id="carried">')[1].split("</script>")[0]
    items = json.loads(carried)["items"]
    assert [item["picture"] for item in items] == [True] * finished.result.summary.run.uniques
    assert sum(item["absorbed"]["count"] + 1 for item in items) == 18


def test_configuration_left_names_the_list_of_the_run_with_labels(
    finished: Finished, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """From any folder it finds log, state and model of the run, and the commands that are printed name it."""
    monkeypatch.chdir(tmp_path)
    settings = load_settings(finished.result.files.configuration, environ={})
    show_demo(finished.result)

    assert len(list(events(settings, "decisions"))) == 18
    assert [*settings.state.dir.glob("snapshot-*")]
    assert Path(str(settings.model.weights)).is_absolute()
    assert settings.gradient.loss == "label"
    printed = [
        line
        for line in capsys.readouterr().out.splitlines()
        if str(finished.result.files.configuration) in line
    ]
    assert [shlex.split(line.partition(": ")[2])[1] for line in printed] == [
        "calibrate",
        "clusters",
        "evaluate",
    ]


def test_demo_ends_with_the_command_for_imagenette(
    finished: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line to copy, unbroken on any width, that names the configuration the demo has left."""
    show_demo(finished.result)

    files = finished.result.files
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"On Imagenette, with your weights: {imagenette_command(files.imagenette)}"
    )
    assert load_settings(files.imagenette, environ={}).input.classes


def test_stages_and_training_are_announced_as_they_come(finished: Finished) -> None:
    """Progress is visible at every stage."""
    assert [stage.split()[0] for stage in finished.heard.stages] == [
        "Reading", "Training", "Streaming", "The", "Counting",
    ]  # fmt: skip
    trained = [note for _, _, note in finished.heard.moved if note != "records"]
    decided = [(done, total) for done, total, note in finished.heard.moved if note == "records"]
    assert trained[-1].endswith(f"accuracy {finished.result.summary.accuracy:.2f}")
    assert (decided[0], decided[-1]) == ((0, 18), (18, 18))


def test_failing_stream_passes_through_and_leaves_no_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logging_as_before: None
) -> None:
    """The demo does not replace an error of the log."""

    def fails(*_args: Any, **_more: Any) -> StreamResult:
        raise LogUnavailableError("the file is locked")

    monkeypatch.setattr(demo, "run_stream", fails)

    with pytest.raises(LogUnavailableError, match="locked"):
        run_demo(tmp_path, *SILENT, plan=QUICK, digits=SPLIT)

    assert [path.name for path in tmp_path.iterdir()] == ["alexnet.safetensors"]


def test_run_without_labels_is_counted_by_true_classes() -> None:
    """The model guesses several classes for digits that are all of one."""
    stream = stripes(6, 0)
    given = StreamResult([unique_event(0, 0, key="digit-0000")], 0.0, 0.3, 8, ("fc",))
    guesses = [unique_event(n, n, label=n, key=f"digit-{3 * n:04d}") for n in range(2)]
    unlabelled = StreamResult([*guesses, duplicate_event(5, 0, 0.9, label=2)], 1.0, 0.3, 8, ("fc",))

    summary = summarise(stream, 0.9, given, unlabelled)

    assert (summary.unlabelled.uniques, summary.unlabelled.classes) == (2, 1)
    assert (summary.run.classes_found, summary.first_covering, summary.records_per_second) == (1, None, 0.0)
