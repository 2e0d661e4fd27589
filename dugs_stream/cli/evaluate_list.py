"""The command evaluate for a list that is there: its table, its files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dugs_stream.cli.listening import listening

if TYPE_CHECKING:
    from dugs_stream.config import Settings
    from dugs_stream.lab.evaluate.list_report import ListReport

_ROWS_SHOWN = 20


def evaluate_list(
    settings: Settings, *, changelog: bool, seed: int, json_file: Path | None, output: Path | None
) -> None:
    """Compare the classes of the list with random picks; write what was asked for."""
    from dugs_stream.commands.written_files import write_whole
    from dugs_stream.lab.evaluate.list_page import render_list_page
    from dugs_stream.lab.evaluate.of_list import evaluate_changelog, evaluate_state

    with listening() as listener:
        report = (evaluate_changelog if changelog else evaluate_state)(settings, seed, listener)
    show_list(report)
    if json_file is not None:
        write_whole(json_file, report.model_dump_json(indent=2) + "\n")
        click.echo(f"{'report':>9}  {json_file}", err=True)
    if output is not None:
        page = output / "evaluate.html"
        write_whole(page, render_list_page(report))
        click.echo(f"{'page':>9}  {page}", err=True)
    if report.interrupted is not None:
        click.echo(f"interrupted while {report.interrupted}; what is above was done by then", err=True)
        sys.exit(130)


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
