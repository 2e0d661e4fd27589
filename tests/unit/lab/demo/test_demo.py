"""The demo, straight down, on a few dozen digits: real training, the real engine, and what it leaves behind."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dugs_stream.app.engine import build_engine
from dugs_stream.config import load_settings
from dugs_stream.core.index.unique_index import UniqueIndex
from dugs_stream.errors import LogUnavailableError, ModelError
from dugs_stream.lab.demo.demo import DemoResult, StreamRequest, StreamResult, run_demo, summarise
from dugs_stream.lab.demo.digits import Digits, Split
from dugs_stream.lab.demo.training import Plan, Step
from dugs_stream.outputs.event import build_event
from dugs_stream.records import Record, Verdict
from tests.support.pages.events import duplicate_event, unique_event

QUICK = Plan(held_out=4, batch=8, epochs=1, minimum=0.0)


@dataclass
class Heard:
    """Everything the demo announced."""

    stages: list[str] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)

    def stage(self, text: str) -> None:
        self.stages.append(text)

    def trained(self, step: Step) -> None:
        self.steps.append(step)


def stripes(count: int, first_row: int) -> Digits:
    """Pictures of three classes: one bright stripe, left, middle or right."""
    images = np.zeros((count, 28, 28), dtype=np.uint8)
    labels = np.arange(count, dtype=np.int64) % 3
    for image, label in zip(images, labels, strict=True):
        image[:, 9 * label : 9 * label + 9] = 255
    return Digits(images, labels, first_row + np.arange(count, dtype=np.int64))


SPLIT = Split(train=stripes(12, 0), stream=stripes(18, 12))


def judged_in_memory(request: StreamRequest) -> StreamResult:
    """The engine that the daemon runs, without a log around it."""
    overrides = [
        "input.codec={type: image, mode: L}",
        f"model.kwargs={json.dumps(dict(request.model_kwargs))}",
        f"model.weights={request.weights}",
        f"gradient.loss={request.loss}",
        "gradient.dimension=64",
        "gradient.tile=4",
    ]
    settings = load_settings(None, overrides, environ={})
    engine = build_engine(settings)
    samples = [
        Record(m.key, m.value, m.headers, topic="s", partition=0, offset=n)
        for n, m in enumerate(request.messages)
    ]
    projected = engine.projector.project(samples)
    index = UniqueIndex(settings.gradient.dimension)
    judged = engine.judge.decide(projected, index, lambda sequence: f"s/unique/{sequence}")
    events = [build_event(judgement, engine.identity) for judgement in judged]
    threshold, dimension = settings.selection.threshold, settings.gradient.dimension
    return StreamResult(events, 0.5, threshold, dimension, engine.projector.layer_names)


@dataclass
class Finished:
    """A demo that ran, and what it asked for and said on the way."""

    result: DemoResult
    heard: Heard
    requests: list[StreamRequest]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """One run for all tests below, since it builds the full AlexNet three times."""
    heard, requests = Heard(), []

    def run_stream(request: StreamRequest) -> StreamResult:
        requests.append(request)
        return judged_in_memory(request)

    out = tmp_path_factory.mktemp("demo") / "new" / "folder"
    result = run_demo(out, announce=heard, run_stream=run_stream, plan=QUICK, digits=SPLIT)
    return Finished(result, heard, requests)


def test_stream_runs_with_labels_and_again_without(finished: Finished) -> None:
    """Both runs judge the same records by the same trained weights."""
    assert [(request.name, request.loss) for request in finished.requests] == [
        ("given", "label"),
        ("pseudo", "pseudo"),
    ]
    assert finished.requests[0].messages == finished.requests[1].messages
    assert finished.requests[0].weights == finished.result.files.weights


def test_streamed_digits_are_not_those_trained_on(finished: Finished) -> None:
    """The stream is what the model has never seen."""
    keys = [message.key for message in finished.requests[0].messages]

    assert keys == [f"digit-{row:04d}".encode() for row in range(12, 30)]


def test_summary_counts_every_record_and_the_classes_of_the_uniques(finished: Finished) -> None:
    """Three classes are streamed; those among the uniques are counted by their true labels."""
    summary = finished.result.summary
    lines = finished.result.files.uniques.read_text(encoding="utf-8").splitlines()
    labels = {json.loads(line)["label"] for line in lines}

    assert summary.run.records == 18
    assert summary.run.verdicts[Verdict.REJECTED] == 0
    assert (summary.run.classes, summary.run.classes_found) == (3, len(labels))
    assert (summary.run.layers, summary.run.dimension) == (("classifier.4", "classifier.6"), 64)
    assert summary.random.size == summary.run.uniques
    assert summary.records_per_second == 36.0


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
            assert picture.width == 1840

    page = files.gallery.read_text(encoding="utf-8")
    assert page.count("<article") == finished.result.summary.run.uniques
    assert "no picture" not in page


def test_stages_and_training_are_announced_as_they_come(finished: Finished) -> None:
    """Whoever waits sees what for."""
    assert [stage.split()[0] for stage in finished.heard.stages] == [
        "Reading", "Training", "Streaming", "The", "Counting",
    ]  # fmt: skip
    assert finished.heard.steps[-1].accuracy == finished.result.training.accuracy


def test_model_that_learned_nothing_streams_nothing(tmp_path: Path) -> None:
    """Below the minimum the demo ends before the daemon starts, with no files that look like results."""
    unseen = Digits(SPLIT.train.images, np.where(np.arange(12) < 8, SPLIT.train.labels, 9), SPLIT.train.rows)

    def never(request: StreamRequest) -> StreamResult:
        raise AssertionError(request)

    with pytest.raises(ModelError, match=r"accuracy of 0\.00"):
        run_demo(
            tmp_path,
            announce=Heard(),
            run_stream=never,
            plan=Plan(held_out=4, epochs=1),
            digits=Split(unseen, SPLIT.stream),
        )

    assert list(tmp_path.iterdir()) == []


def test_failing_stream_passes_through_and_leaves_no_results(tmp_path: Path) -> None:
    """An error of the log is the log's to explain."""

    def fails(request: StreamRequest) -> StreamResult:
        raise LogUnavailableError("the file is locked")

    with pytest.raises(LogUnavailableError, match="locked"):
        run_demo(tmp_path, announce=Heard(), run_stream=fails, plan=QUICK, digits=SPLIT)

    assert [path.name for path in tmp_path.iterdir()] == ["alexnet.safetensors"]


def test_pseudo_run_is_counted_by_true_classes() -> None:
    """The model's guesses say three classes; the digits behind them are of one."""
    stream = stripes(6, 0)
    given = StreamResult([unique_event(0, 0, key="digit-0000")], 0.0, 0.3, 8, ("fc",))
    guesses = [unique_event(n, n, label=n, key=f"digit-{3 * n:04d}") for n in range(2)]
    pseudo = StreamResult([*guesses, duplicate_event(5, 0, 0.9, label=2)], 1.0, 0.3, 8, ("fc",))

    summary = summarise(stream, 0.9, given, pseudo)

    assert (summary.pseudo.uniques, summary.pseudo.classes) == (2, 1)
    assert (summary.run.classes_found, summary.first_covering, summary.records_per_second) == (1, None, 0.0)
