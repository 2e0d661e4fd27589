"""The text demo: English that every Python carries, through the daemon and a model trained on the spot.

Train the model on some paragraphs, stream others with repeats between them, count what was caught, leave the files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dugs_stream.lab.demo.configuration import write_configuration
from dugs_stream.lab.demo.stream import StreamResult, run_stream
from dugs_stream.lab.text_demo.findings import Judged, counts, judged_texts, key_of
from dugs_stream.lab.text_demo.language_model import Plan, require_transformers
from dugs_stream.lab.text_demo.models import Progress, Trained, language_model, sentence_encoder
from dugs_stream.lab.text_demo.page import render_page
from dugs_stream.lab.text_demo.paragraphs import Paragraph, library_paragraphs
from dugs_stream.lab.text_demo.repeats import Streamed, with_repeats
from dugs_stream.lab.text_demo.summary import Summary
from dugs_stream.lab.text_demo.thresholds import THRESHOLDS, Outcome, outcome_at, project
from dugs_stream.ops.logging.configure import configure_logs
from dugs_stream.records import Message

_SHUFFLE_SEED = 20_240_519  # arbitrary, but fixed: every run has the same stream


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many originals are streamed, and how many repeats between them; all other paragraphs are trained on."""

    originals: int = 1_100
    exact: int = 150
    each_edit: int = 50


_ENCODER_SIZES = Sizes(originals=550, exact=75, each_edit=25)
"""Half as many: a text costs the encoder about three times what it costs the language model."""


@dataclass(frozen=True, slots=True)
class TextDemoResult:
    """The numbers, and the files left."""

    summary: Summary
    files: TextDemoFiles


class TextDemoFiles:
    """The files that the text demo leaves in its folder."""

    def __init__(self, out: Path) -> None:
        self.uniques = out / "uniques.jsonl"  # their events and texts, an object a line, in sequence order
        self.gallery = out / "gallery.html"  # duplicates beside their nearest, then the uniques
        self.model = out / "model"  # model and tokenizer, as transformers saves them
        self.configuration = out / "text.yaml"  # the list: its model, log and state


def run_text_demo(
    out: Path,
    stage: Callable[[str], None],
    progress: Progress,
    *,
    encoder: Path | None = None,
    plan: Plan | None = None,
    sizes: Sizes | None = None,
    paragraphs: Sequence[Paragraph] | None = None,
) -> TextDemoResult:
    """`dugs demo --text`: leave the files of `TextDemoFiles` in `out`, which is made if missing.

    stage       hears a sentence when a new stage begins
    progress    hears (done, total, note) within a stage; must return at once, as must `stage`
    encoder     folder of an encoder to judge by, with a head trained on the spot; None: a language model of the demo's
                own, trained by `plan`
    paragraphs  to train on and to stream; None: all of this Python's standard library
    Raises ConfigurationError without transformers, ModelError if training fails, and what the daemon raises; files
    of an earlier run are replaced.
    """
    require_transformers()
    configure_logs("warning", "console")
    out.mkdir(parents=True, exist_ok=True)
    files = TextDemoFiles(out)
    sizes = sizes or (Sizes() if encoder is None else _ENCODER_SIZES)

    def counting(note: str) -> Callable[[int, int], None]:
        return lambda done, total: progress(done, total, note)

    stage("Reading the English of Python's standard library")
    paragraphs = _shuffled(paragraphs or library_paragraphs(counting("files")))
    trained_on, originals = paragraphs[: -sizes.originals], paragraphs[-sizes.originals :]
    stream = with_repeats(originals, exact=sizes.exact, each_edit=sizes.each_edit)
    messages = [as_message(place, each) for place, each in enumerate(stream)]

    if encoder is None:
        stage(f"Training tokenizer and language model on {len(trained_on):,} paragraphs")
        model = language_model(trained_on, originals, files.model, progress, plan)
    else:
        stage("Training a head on the sentence encoder")
        model = sentence_encoder(trained_on, originals, files.model, progress, encoder)
    stage(
        f"Streaming {len(originals):,} others and {len(stream) - len(originals):,} repeats through the daemon"
    )
    result = run_stream(out / "work" / "text", messages, model.judged_by, counting("records"))
    stage("The same gradients at other thresholds")
    gradients = project(messages, model.judged_by, counting("records"))
    outcomes = [outcome_at(threshold, stream, gradients) for threshold in THRESHOLDS]

    judged = judged_texts(stream, result.events)
    summary = _summary(judged, result, model, outcomes)
    _write_files(files, judged, summary, model)
    return TextDemoResult(summary, files)


def as_message(place: int, text: Streamed) -> Message:
    """The record of one text: UTF-8 as the value, its place in the stream as the key, where it stands in headers."""
    headers = (("kind", text.kind.encode()), ("source", text.source.encode()))
    return Message(key=key_of(place).encode(), value=text.text.encode(), headers=headers)


def _shuffled(paragraphs: Sequence[Paragraph]) -> list[Paragraph]:
    order = np.random.default_rng(_SHUFFLE_SEED).permutation(len(paragraphs))
    return [paragraphs[place] for place in order]


def _summary(
    judged: Sequence[Judged], result: StreamResult, model: Trained, outcomes: Sequence[Outcome]
) -> Summary:
    originals, repeats = counts(judged)
    return Summary(
        originals=originals,
        repeats=repeats,
        threshold=result.threshold,
        dimension=result.dimension,
        layers=tuple(model.judged_by["gradient"]["layers"]["names"]),
        model=model.said,
        records_per_second=len(result.events) / result.seconds if result.seconds > 0 else 0.0,
        outcomes=outcomes,
    )


def _write_files(files: TextDemoFiles, judged: Sequence[Judged], summary: Summary, model: Trained) -> None:
    uniques = sorted((each for each in judged if each.is_unique), key=lambda each: each.event["sequence"])
    with files.uniques.open("w", encoding="utf-8") as lines:
        for each in uniques:
            event = {**each.event, "text": each.text.text}
            lines.write(json.dumps(event, ensure_ascii=False, separators=(",", ":")) + "\n")
    files.gallery.write_text(render_page(judged, summary), encoding="utf-8")
    write_configuration(files.configuration, model.judged_by, files.configuration.parent / "work/text")
