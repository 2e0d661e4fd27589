"""One run of `dugs evaluate`: view the records, measure the selections, leave the files that were asked for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dugs_stream.commands.written_files import write_report, write_whole
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


def run_evaluate(settings: Settings, wanted: Wanted, listener: Listener) -> Report:
    """View and measure. Raises as `view_records` and `evaluate` do."""
    started = time.perf_counter()
    viewed = view_records(settings, wanted.source, wanted.plan, listener)
    report = evaluate(viewed, wanted.plan, listener)
    return report.model_copy(update={"seconds": time.perf_counter() - started})  # with the viewing


def leave_files(wanted: Wanted, report: Report) -> Iterator[tuple[str, Path]]:
    """Write the files that were asked for; each with what it is, once it is there. An OSError names the file."""
    if wanted.json_file is not None:
        write_report(wanted.json_file, report)
        yield "report", wanted.json_file
    if wanted.output is not None:
        page = wanted.output / "evaluate.html"
        write_whole(page, render_page(report))
        yield "page", page
