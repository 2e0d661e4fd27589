"""One run of `dugs calibrate`: read a sample, hold the settings against it, leave the files that were asked for."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dugs_stream.app.engine import build_engine
from dugs_stream.app.target import set_target
from dugs_stream.commands.written_files import write_report, write_whole
from dugs_stream.config import Settings
from dugs_stream.lab.calibrate.calibrate import Calibration, calibrate
from dugs_stream.lab.calibrate.configuration import configuration_text
from dugs_stream.lab.calibrate.page import render_page
from dugs_stream.lab.calibrate.plan import Plan
from dugs_stream.lab.calibrate.report import Report
from dugs_stream.lab.drawn_records import Source, draw_records
from dugs_stream.lab.listener import Listener
from dugs_stream.lab.samples import ProjectedSample, project_sample


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for.

    written    what the user's configuration file and --set say: the new file is made of it
    json_file  gets the report
    output     folder that gets calibrate.html and calibrated.yaml
    """

    source: Source
    plan: Plan
    written: Mapping[str, Any]
    json_file: Path | None
    output: Path | None


@dataclass(frozen=True, slots=True)
class Done:
    """What was found, and on which sample."""

    found: Calibration
    sample: ProjectedSample

    @property
    def report(self) -> Report:
        """For the terminal."""
        return self.found.report


def run_calibration(settings: Settings, wanted: Wanted, listener: Listener) -> Done:
    """Read and compare. Raises what reading raises, and ConfigurationError for a number that cannot be met."""
    started = time.perf_counter()
    drawn = draw_records(settings, wanted.source, listener)
    engine = build_engine(settings, samples=len(drawn.records))
    with closing(engine.decoding):
        if settings.value.target is not None:
            listener.stage("Reading the target of values")
            set_target(settings, engine, fields=wanted.source.fields)
        sample = project_sample(settings, drawn, listener, engine)
        return Done(calibrate(settings, sample, wanted.plan, listener, started), sample)


def leave_files(wanted: Wanted, done: Done) -> Iterator[tuple[str, Path]]:
    """Write the files that were asked for; each with what it is, once it is there. An OSError names the file."""
    if wanted.json_file is not None:
        write_report(wanted.json_file, done.report)
        yield "report", wanted.json_file
    if wanted.output is not None:
        text = configuration_text(wanted.written, done.report)
        page, configuration = wanted.output / "calibrate.html", wanted.output / "calibrated.yaml"
        pictures = done.sample.thumbnails(done.found.calls.rows)
        write_whole(page, render_page(done.found, pictures, text))
        yield "page", page
        write_whole(configuration, text)
        yield "configuration", configuration
