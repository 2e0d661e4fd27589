"""One run of `dugs calibrate`: read a sample, hold the settings against it, leave the files that were asked for."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from dugs_stream.app.engine import build_engine
from dugs_stream.app.target import set_target
from dugs_stream.config import Settings
from dugs_stream.lab.calibrate.calibrate import calibrate
from dugs_stream.lab.calibrate.configuration import configuration_text
from dugs_stream.lab.calibrate.page import render_page
from dugs_stream.lab.calibrate.plan import Plan
from dugs_stream.lab.calibrate.report import Report
from dugs_stream.lab.drawn_records import Source, draw_records
from dugs_stream.lab.listener import Listener
from dugs_stream.lab.samples import project_sample


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for.

    config     the user's configuration file, and --set in `overrides`: what the new file is made of
    json_file  gets the report
    output     folder that gets calibrate.html and calibrated.yaml
    """

    source: Source
    plan: Plan
    config: Path | None
    overrides: Sequence[str]
    json_file: Path | None
    output: Path | None


@dataclass(frozen=True, slots=True)
class Done:
    """The report, and the files that were left, by what they are."""

    report: Report
    files: Mapping[str, Path]


def run_calibration(settings: Settings, wanted: Wanted, listener: Listener) -> Done:
    """Read, compare, write. Raises what reading raises, and ConfigurationError for a number that cannot be met."""
    started = time.perf_counter()
    drawn = draw_records(settings, wanted.source, listener)
    engine = build_engine(settings, samples=len(drawn.records))
    with closing(engine.decoding):
        if settings.value.target is not None:
            listener.stage("Reading the target of values")
            set_target(settings, engine)
        sample = project_sample(settings, drawn, listener, engine)
        found = calibrate(settings, sample, wanted.plan, listener, started)
    pictures = sample.thumbnails(found.calls.rows) if wanted.output is not None else {}
    files: dict[str, Path] = {}
    if wanted.json_file is not None:
        wanted.json_file.parent.mkdir(parents=True, exist_ok=True)
        wanted.json_file.write_text(found.report.model_dump_json(indent=2) + "\n", encoding="utf-8")
        files["report"] = wanted.json_file
    if wanted.output is not None:
        wanted.output.mkdir(parents=True, exist_ok=True)
        text = configuration_text(wanted.config, wanted.overrides, found.report)
        files["page"] = wanted.output / "calibrate.html"
        files["page"].write_text(render_page(found, pictures, text), encoding="utf-8")
        files["configuration"] = wanted.output / "calibrated.yaml"
        files["configuration"].write_text(text, encoding="utf-8")
    return Done(found.report, files)
