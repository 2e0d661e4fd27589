"""The command evaluate for a list that is there: its table, its files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dugs_stream.cli.listening import listening
from dugs_stream.cli.study_end import end_study

if TYPE_CHECKING:
    from dugs_stream.config import Settings
    from dugs_stream.lab.evaluate.list_report import ListReport

_ROWS_SHOWN = 20


def evaluate_list(
    settings: Settings, *, changelog: bool, seed: int, json_file: Path | None, output: Path | None
) -> None:
    """Compare the classes of the list with random picks; write what was asked for."""
    from dugs_stream.lab.evaluate.of_list import evaluate_changelog, evaluate_state

    with listening() as listener:
        report = (evaluate_changelog if changelog else evaluate_state)(settings, seed, listener)
    show_list(report)
    end_study(_leave_files(report, json_file, output), report.interrupted)


def _leave_files(
    report: ListReport, json_file: Path | None, output: Path | None
) -> Iterator[tuple[str, Path]]:
    from dugs_stream.commands.written_files import write_report, write_whole
    from dugs_stream.lab.evaluate.list_page import render_list_page

    if json_file is not None:
        write_report(json_file, report)
        yield "report", json_file
    if output is not None:
        page = output / "evaluate.html"
        write_whole(page, render_list_page(report))
        yield "page", page


def show_list(report: ListReport) -> None:
    """The facts, the rarest classes and the notes on stdout; control characters of a record are escaped."""
    from rich.table import Table
    from rich.text import Text

    from dugs_stream.cli.console import Tables
    from dugs_stream.lab.evaluate.list_page import cells_of, facts_of_list
    from dugs_stream.ops.logging.lines import printable

    console = Tables()
    facts = " · ".join(f"{name} {value}" for name, value in facts_of_list(report).items())
    console.print(Text(printable(f"{report.place} · {facts}")))
    if report.items:
        table = Table()
        table.add_column("class, the rarest first", overflow="fold")
        for column in ("records", "uniques", "by chance"):
            table.add_column(column, justify="right")
        for item in report.items[:_ROWS_SHOWN]:
            label, *numbers = cells_of(item)
            table.add_row(Text(printable(label)), *numbers)
        console.print(table)
    if len(report.items) > _ROWS_SHOWN:
        left_out = len(report.items) - _ROWS_SHOWN
        console.print(Text(f"{left_out:,} more frequent classes are left out", style="dim"))
    for remark in report.remarks:
        console.print(Text(printable(f"note: {remark}")))
