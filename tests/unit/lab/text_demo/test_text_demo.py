"""The text demo at toy size: real training, the real daemon, and the files it leaves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import util
from pathlib import Path

import pytest

from dugs_stream.cli.demo import show_text_demo
from dugs_stream.config import load_settings
from dugs_stream.errors import ConfigurationError, ModelError
from dugs_stream.lab.text_demo.demo import Sizes, TextDemoFiles, TextDemoResult, run_text_demo
from dugs_stream.lab.text_demo.language_model import Plan
from dugs_stream.lab.text_demo.paragraphs import KINDS, Paragraph
from dugs_stream.lab.text_demo.repeats import EDITS
from tests.support.terminals.commands import logging_of_its_own

QUICK = Plan(vocabulary=300, width=16, blocks=1, heads=2, tokens=48, steps=3, windows=2, maximum=99.0)
SIZES = Sizes(originals=14, exact=3, each_edit=1)
SILENT = (lambda _text: None, lambda _done, _total, _note: None)


def paragraphs() -> list[Paragraph]:
    """Thirty short texts of two sentences; one of them is markup."""
    texts = [f"Text {n} <b>says</b> {n * n} & more. It ends, {n % 7} words on." for n in range(30)]
    return [Paragraph(text, KINDS[n % 3], f"file{n}.py") for n, text in enumerate(texts)]


@dataclass
class Heard:
    """Keeps everything the demo announces."""

    stages: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def progress(self, _done: int, _total: int, note: str) -> None:
        self.notes.append(note)


@pytest.fixture(scope="module")
def logging_as_before() -> Iterator[None]:
    """The demo sets up the logging of its process."""
    with logging_of_its_own():
        yield


@pytest.fixture(scope="module")
def heard() -> Heard:
    """What the one run announces."""
    return Heard()


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, logging_as_before: None, heard: Heard) -> TextDemoResult:
    """One run for all tests below."""
    out = tmp_path_factory.mktemp("demo") / "new"
    return run_text_demo(
        out, heard.stages.append, heard.progress, plan=QUICK, sizes=SIZES, paragraphs=paragraphs()
    )


def test_every_text_is_judged_and_counted_by_its_role(result: TextDemoResult) -> None:
    """14 originals, 3 exact repeats, 1 repeat of each of 5 edits; an exact repeat is a duplicate of its original."""
    summary = result.summary
    exact = summary.repeats[0]

    assert (summary.records, summary.original_records) == (22, 14)
    assert {each.name: each.records for each in summary.repeats} == {"exact": 3} | dict.fromkeys(EDITS, 1)
    assert (exact.name, exact.uniques, exact.duplicates) == ("exact", 0, 3)
    assert all(
        each.uniques + each.duplicates == each.records for each in (*summary.originals, *summary.repeats)
    )


def test_table_of_thresholds_agrees_with_the_daemon_at_the_threshold_in_force(result: TextDemoResult) -> None:
    """The same vectors, decided again."""
    summary = result.summary
    (in_force,) = [each for each in summary.outcomes if each.threshold == summary.threshold]

    assert in_force.kept == sum(each.uniques for each in summary.originals)
    assert in_force.exact_caught == summary.repeats[0].duplicates
    assert in_force.near_caught == sum(each.duplicates for each in summary.repeats[1:])


def test_uniques_are_left_as_events_with_their_texts(result: TextDemoResult) -> None:
    """One JSON object a line, in sequence, each with the text that was streamed."""
    events = [json.loads(line) for line in result.files.uniques.read_text(encoding="utf-8").splitlines()]

    assert [event["sequence"] for event in events] == list(range(result.summary.uniques))
    assert {event["type"] for event in events} == {"unique"}
    assert len({event["text"] for event in events}) == len(events)


def test_page_shows_texts_escaped_and_may_run_nothing(result: TextDemoResult) -> None:
    """Markup in a text is shown as it is written."""
    page = result.files.gallery.read_text(encoding="utf-8")

    assert "&lt;b&gt;" in page
    assert "<b>says" not in page
    assert "<script" not in page
    assert "default-src 'none'" in page


def test_demo_ends_with_the_command_for_texts_of_ones_own(
    result: TextDemoResult, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line to copy, for any folder to run it in, and a configuration that loads."""
    folder = result.files.configuration.parent
    monkeypatch.chdir(folder)
    show_text_demo(TextDemoResult(result.summary, TextDemoFiles(Path())))

    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"Your own texts, by the same model: dugs scan -c {result.files.configuration} texts/"
    settings = load_settings(result.files.configuration, environ={})
    assert settings.gradient.loss == "causal_lm"
    assert [*settings.state.dir.glob("snapshot-*")]


def test_stages_are_announced_as_they_come(result: TextDemoResult, heard: Heard) -> None:
    """Progress is visible in the long ones."""
    assert [stage.split()[0] for stage in heard.stages] == ["Reading", "Training", "Streaming", "The"]
    assert [note for note in heard.notes if note.startswith("loss")][-1] != "loss nan"
    assert heard.notes.count("records") >= 2


def test_training_that_learns_nothing_is_refused(tmp_path: Path, logging_as_before: None) -> None:
    """Chance is a loss of log(vocabulary)."""
    plan = Plan(vocabulary=300, width=16, blocks=1, heads=2, tokens=48, steps=1, windows=1, maximum=1.0)

    with pytest.raises(ModelError, match="chance"):
        run_text_demo(tmp_path, *SILENT, plan=plan, sizes=SIZES, paragraphs=paragraphs())


def test_missing_packages_are_named_with_their_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is read or written."""
    found = util.find_spec
    monkeypatch.setattr(
        "dugs_stream.lab.text_demo.language_model.find_spec",
        lambda name: None if name == "tokenizers" else found(name),
    )

    with pytest.raises(ConfigurationError, match=r"needs tokenizers.*'\.\[hf\]' -c constraints"):
        run_text_demo(tmp_path / "new", *SILENT)

    assert list(tmp_path.iterdir()) == []
