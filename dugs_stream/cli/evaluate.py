"""The command evaluate: its options, its table, its files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dugs_stream.cli.options import FiniteRange, Settings, command, configured, report_file, row_fields, seed
from dugs_stream.cli.study_end import end_study

if TYPE_CHECKING:
    from rich.console import Console

    from dugs_stream.inputs.rows.fields import RowFields
    from dugs_stream.lab.evaluate.plan import LayerChoice
    from dugs_stream.lab.evaluate.report import CopiesAt, Report

    _Layers = click.ParamType[tuple[LayerChoice, ...]]
    _Names = click.ParamType[tuple[str, ...]]
    _Shares = click.ParamType[tuple[float, ...]]
else:  # older releases of click have no generic types
    _Layers = _Names = _Shares = click.ParamType


_COLUMNS = 5
"""As many as 80 characters hold beside the names; the page has all."""


class Layers(_Layers):
    """The last layers to compare: 1,2,all; configured means those of gradient.layers."""

    name = "layers"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[LayerChoice, ...]:
        found: list[LayerChoice] = []
        for each in str(value).split(","):
            if each in ("all", "configured"):
                found.append(each)  # type: ignore[arg-type]  # one of the two
            elif each.isdecimal() and int(each) > 0:
                found.append(int(each))
            else:
                self.fail(f"{each!r} is not a number of last layers, all or configured.", param, ctx)
        return tuple(dict.fromkeys(found))


class Names(_Names):
    """Names with commas between them."""

    name = "names"

    def __init__(self, allowed: tuple[str, ...] = ()) -> None:
        self._allowed = allowed

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        found = tuple(dict.fromkeys(each.strip() for each in str(value).split(",") if each.strip()))
        wrong = [each for each in found if self._allowed and each not in self._allowed]
        if wrong or not found:
            self.fail(
                f"{wrong[0] if wrong else value!r} is not one of {', '.join(self._allowed)}.", param, ctx
            )
        return found


class Shares(_Shares):
    """Shares of a stream: 0.01,0.001."""

    name = "shares"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        try:
            found = tuple(dict.fromkeys(float(each) for each in str(value).split(",")))
        except ValueError:
            found = ()
        if not found or not all(0 < each < 1 for each in found):
            self.fail(f"{value!r} is not a share between 0 and 1, or several with commas.", param, ctx)
        return found


@command(
    "dugs evaluate -c my.yaml photos/ -o out/\n"
    "dugs evaluate -c my.yaml photos/ --rare cat,dog --json report.json\n"
    "dugs evaluate -c my.yaml --layers configured --losses label,energy\n"
    "dugs evaluate -c my.yaml --list"
)
@configured
@row_fields
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--size",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    help="How many records each selection picks.",
)
@click.option(
    "--draws", type=click.IntRange(min=1), default=20, show_default=True,
    help="Streams of each kind, two from each split of the records in halves; 1: one of all records, and no interval.",
)  # fmt: skip
@click.option(
    "--limit", type=click.IntRange(8, 10_000), default=3_000, show_default=True,
    help="Records drawn at random from the data, at most.",
)  # fmt: skip
@click.option(
    "--rare", type=Names(), default=None, metavar="CLASS,…",
    help="The classes that are made rare.  [default: a fifth of them, drawn anew for each stream]",
)  # fmt: skip
@click.option(
    "--rare-share", "rare_shares", type=Shares(), default="0.01,0.001", show_default=True, metavar="SHARE,…",
    help="How much of a stream is of the rare classes.",
)  # fmt: skip
@click.option(
    "--wrong-share", type=FiniteRange(0, 0.5), default=0.05, show_default=True,
    help="How many of the labels are made wrong in the streams that ask for it.",
)  # fmt: skip
@click.option(
    "--layers", type=Layers(), default="1,2,all", show_default=True, metavar="N|all|configured,…",
    help="Whose gradients are compared: those of the last so many layers.",
)  # fmt: skip
@click.option(
    "--losses", type=Names(("label", "pseudo", "energy", "entropy")), default=None, metavar="LOSS,…",
    help="Of label, pseudo, energy and entropy.  [default: all that the data and the model allow]",
)  # fmt: skip
@click.option(
    "--list", "is_list", is_flag=True,
    help="The list in the state folder instead: its classes beside random picks of the records behind it, which the decisions "
    "topic tells.",
)  # fmt: skip
@click.option("--changelog", is_flag=True, help="The same, of the list on the changelog.")
@seed
@report_file
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False),
    help="Folder for evaluate.html; it is made if missing.",
)  # fmt: skip
def evaluate(
    settings: Settings,
    *,
    paths: tuple[Path, ...],
    fields: RowFields,
    size: int,
    draws: int,
    limit: int,
    rare: tuple[str, ...] | None,
    rare_shares: tuple[float, ...],
    wrong_share: float,
    layers: tuple[LayerChoice, ...],
    losses: tuple[str, ...] | None,
    is_list: bool,
    changelog: bool,
    seed: int,
    json_file: Path | None,
    output: Path | None,
) -> None:
    """Compare uniques with other picks of your data. All are of the same size.

    PATHS are files and folders as `dugs scan` reads them; without any the newest records of the input topic. Folder names
    are classes: what needs labels is left out if there are none.
    """
    if is_list or changelog:
        _check_alone(is_list=is_list, changelog=changelog)
        from dugs_stream.cli.evaluate_list import evaluate_list

        evaluate_list(settings, changelog=changelog, seed=seed, json_file=json_file, output=output)
        return
    from dugs_stream.cli.listening import listening
    from dugs_stream.lab.clusters.extra import require_scikit_learn

    require_scikit_learn("dugs evaluate")
    from dugs_stream.lab.drawn_records import Source
    from dugs_stream.lab.evaluate.plan import Plan
    from dugs_stream.lab.evaluate.run import Wanted, leave_files, run_evaluate

    plan = Plan(size, draws, limit, seed, rare or (), rare_shares, wrong_share, layers, losses)
    wanted = Wanted(Source(paths, fields, limit, seed), plan, json_file, output)
    with listening() as listener:
        report = run_evaluate(settings, wanted, listener)
    show_report(report)
    end_study(leave_files(wanted, report), report.interrupted)


_OF_SAMPLES = ("paths", "size", "draws", "limit", "rare", "rare_shares", "wrong_share", "layers", "losses")


def _check_alone(*, is_list: bool, changelog: bool) -> None:
    """Raise UsageError for what a list has no use for."""
    given = click.get_current_context().get_parameter_source
    commanded = click.core.ParameterSource.COMMANDLINE
    if is_list and changelog:
        raise click.UsageError("--list and --changelog exclude each other.")
    if any(given(name) is commanded for name in _OF_SAMPLES):
        raise click.UsageError("--list and --changelog go with --seed, --json and -o alone.")


def show_report(report: Report) -> None:
    """The facts, the tables and the notes on stdout."""
    from rich.text import Text

    from dugs_stream.cli.console import Tables
    from dugs_stream.lab.evaluate.table import facts_of, notes_of, suspects_told
    from dugs_stream.ops.logging.lines import printable

    console = Tables()
    facts = " · ".join(f"{name} {value}" for name, value in facts_of(report).items())
    console.print(Text(printable(facts)))
    if report.source.classes:
        _show_selections(console, report)
    _show_copies(console, report, "proposed")
    _show_copies(console, report, "configured")
    suspects = suspects_told(report)
    if suspects is not None:
        console.print(Text(suspects))
    for note in (*notes_of(report), *report.remarks):
        console.print(Text(printable(f"note: {note}")))
    mebibytes = report.peak_memory_bytes / 2**20
    console.print(Text(f"{report.seconds:.1f} s, peak memory {mebibytes:,.0f} MiB", style="dim"))


def _show_selections(console: Console, report: Report) -> None:
    """The table of the selections, as many columns of it as 80 characters hold."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from dugs_stream.lab.evaluate.table import best_of, cell, columns_of, short_name

    table, columns = (
        Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)),
        columns_of(report)[:_COLUMNS],
    )
    table.add_column("selection", overflow="fold")
    for column in columns:
        table.add_column(column.title, justify="right")
    found = [report.at_full_size(column.measure, column.stream) for column in columns]
    best = [best_of(column, values) for column, values in zip(columns, found, strict=True)]
    for selection in report.selections:
        cells = [
            Text(cell(values.get(selection)), style="bold" if selection in leaders else "")
            for values, leaders in zip(found, best, strict=True)
        ]
        table.add_row(Text(short_name(selection)), *cells)
    console.print(table)
    console.print(
        Text(
            "In percent, mean over the streams ± its 95 % interval: over the records, their order and what is rare. "
            "Bold: the best, and what reaches it. ∇: uniques by the gradient of that loss.",
            style="dim",
        )
    )


def _show_copies(console: Console, report: Report, at: CopiesAt) -> None:
    """A table of the copies caught; nothing without copies."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from dugs_stream.lab.evaluate.table import (
        NEAR_COPIES,
        copies_at,
        copies_cells,
        name_of_rule,
        short_name,
        title_of_copies,
    )
    from dugs_stream.ops.logging.lines import printable

    rows = copies_at(report, at)
    if not rows:
        return
    console.print(Text(printable(f"{title_of_copies(report, at)}, in percent:")))
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("rule", overflow="fold")
    for column in ("τ", "false rejects", *rows[0].caught):
        table.add_column(column, justify="right")
    for each in rows:
        table.add_row(Text(short_name(name_of_rule(report, each.selection))), *copies_cells(each))
    console.print(table)
    if at == "configured":
        console.print(Text(NEAR_COPIES, style="dim"))
