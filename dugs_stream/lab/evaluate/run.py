"""One run of `dugs evaluate`: view the records, measure the selections, leave the files that were asked for."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dugs_stream.config import Settings
from dugs_stream.lab.drawn_records import Source
from dugs_stream.lab.evaluate.evaluate import evaluate
from dugs_stream.lab.evaluate.page import render_page
from dugs_stream.lab.evaluate.plan import Plan
from dugs_stream.lab.evaluate.report import Report
from dugs_stream.lab.evaluate.viewing import view_records
from dugs_stream.lab.listener import Listener


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for.

    json_file  gets the report
    output     folder that gets evaluate.html
    """

    source: Source
    plan: Plan
    json_file: Path | None
    output: Path | None


@dataclass(frozen=True, slots=True)
class Done:
    """The report, and the files that were left, by what they are."""

    report: Report
    files: Mapping[str, Path]


def run_evaluate(settings: Settings, wanted: Wanted, listener: Listener) -> Done:
    """View, measure, write. Raises as `view_records` and `evaluate` do."""
    started = time.perf_counter()
    viewed = view_records(settings, wanted.source, wanted.plan, listener)
    report = evaluate(viewed, wanted.plan, listener)
    report = report.model_copy(update={"seconds": time.perf_counter() - started})  # with the viewing
    files: dict[str, Path] = {}
    if wanted.json_file is not None:
        wanted.json_file.parent.mkdir(parents=True, exist_ok=True)
        wanted.json_file.write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
        files["report"] = wanted.json_file
    if wanted.output is not None:
        wanted.output.mkdir(parents=True, exist_ok=True)
        files["page"] = wanted.output / "evaluate.html"
        files["page"].write_text(render_page(report), encoding="utf-8")
    return Done(report, files)
