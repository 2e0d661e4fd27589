"""The command calibrate: its options, its tables, its files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dugs_stream.cli.listening import listening
from dugs_stream.cli.options import (
    WRITTEN,
    FiniteRange,
    Settings,
    command,
    configured,
    report_file,
    row_fields,
)
from dugs_stream.cli.study_end import end_study

if TYPE_CHECKING:
    from rich.console import Console

    from dugs_stream.inputs.rows.fields import RowFields
    from dugs_stream.lab.calibrate.list_report import ListReport
    from dugs_stream.lab.calibrate.plan import LayerChoice, Plan
    from dugs_stream.lab.calibrate.report import Call, CurvePoint, Report

    _Choice = click.ParamType[LayerChoice]
else:  # older releases of click have no generic types
    _Choice = click.ParamType


class LayersOption(_Choice):
    """A choice of layers: a number for the last so many, or globs joined by commas."""

    name = "layers"

    def convert(
        self, value: object, _param: click.Parameter | None, _ctx: click.Context | None
    ) -> LayerChoice:
        text = str(value)
        if text.isdecimal() and int(text) > 0:
            return int(text)
        globs = tuple(part.strip() for part in text.split(",") if part.strip())
        if not globs or text.isdecimal():
            self.fail(f"{value!r} is not a choice of layers; write 2, or globs as head.*,encoder.11.*")
        return globs


_MOST_DIMENSIONS = 1 << 18
"""Uniques of 1 MiB, what a message takes by default; the vectors that are compared are 64 MiB then."""


@command(
    "dugs calibrate -c my.yaml photos/ --accept 0.05 -o calibration/\n"
    "dugs calibrate -c my.yaml --keep 500 --of 100000 --json calibration.json\n"
    "dugs calibrate -c my.yaml photos/ --layers 1 --layers 'head.*,blocks.11.*'"
)
@configured
@row_fields
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--records", "most", type=click.IntRange(1, 20_000), default=2_000, show_default=True,
    help="How many records to look at, at most.",
)  # fmt: skip
@click.option(
    "--accept", type=FiniteRange(0, 1, min_open=True), multiple=True,
    help="A share of records that is to be unique; may be repeated.",
)  # fmt: skip
@click.option(
    "--keep", type=click.IntRange(min=1), multiple=True,
    help="A number of uniques to keep; may be repeated.",
)  # fmt: skip
@click.option(
    "--threshold", type=FiniteRange(-1, 1, min_open=True), multiple=True,
    help="A τ to look at; may be repeated.",
)  # fmt: skip
@click.option(
    "--of", type=click.IntRange(min=1),
    help="How many records --accept and --keep are about; more than the sample makes them estimates.  [default: the sample]",
)  # fmt: skip
@click.option("--k", "dimensions", type=click.IntRange(2, _MOST_DIMENSIONS), multiple=True,
    help="A k to compare; may be repeated.  [default: 256, 1024, 4096 and the configured one]",
)  # fmt: skip
@click.option("--layers", type=LayersOption(), multiple=True, metavar="N|GLOBS",
    help="Layers to compare; may be repeated.  [default: 1, 2, 3, * and the configured ones]",
)  # fmt: skip
@click.option(
    "--list", "is_list", is_flag=True,
    help="No sample: what other thresholds would have kept of the records behind the list in the state folder.",
)  # fmt: skip
@click.option("--changelog", is_flag=True, help="The same, of the list on the changelog.")
@click.option(
    "--vectors", "vectors", type=click.Path(path_type=Path, dir_okay=False),
    help="The same, exactly, of all records of a scan: the file that `dugs scan --vectors` wrote.",
)  # fmt: skip
@click.option("--quick", is_flag=True, help="Thresholds alone: compare neither k nor layers.")
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of the sample of files."
)
@report_file
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False),
    help="Folder for calibrate.html and calibrated.yaml; it is made if missing.",
)  # fmt: skip
def calibrate(
    settings: Settings,
    *,
    paths: tuple[Path, ...],
    fields: RowFields,
    most: int,
    accept: tuple[float, ...],
    keep: tuple[int, ...],
    threshold: tuple[float, ...],
    of: int | None,
    dimensions: tuple[int, ...],
    layers: tuple[LayerChoice, ...],
    is_list: bool,
    changelog: bool,
    vectors: Path | None,
    quick: bool,
    seed: int,
    json_file: Path | None,
    output: Path | None,
) -> None:
    """Propose τ, k and layers from a sample of your data. Shows the share of uniques over τ and the closest calls.

    Without PATHS the sample is the newest records of the input topic, which is read beside a daemon; files are drawn at
    random, in a random order. The configuration file that -o leaves has the first τ wished for, or the knee of the curve.
    """
    if is_list or changelog or vectors is not None:
        if paths or accept or keep or of or dimensions or layers or quick or output:
            raise click.UsageError("--list, --changelog and --vectors go with --threshold and --json alone.")
        if is_list + changelog + (vectors is not None) > 1:
            raise click.UsageError("--list, --changelog and --vectors exclude each other.")
        _other_thresholds(
            settings, changelog=changelog, vectors=vectors, wished=threshold, json_file=json_file
        )
        return
    if quick and (dimensions or layers):
        raise click.UsageError("--quick compares neither k nor layers: leave --k and --layers out.")
    from dugs_stream.lab.calibrate.plan import Plan
    from dugs_stream.lab.calibrate.run import Wanted, leave_files, run_calibration
    from dugs_stream.lab.clusters.extra import require_scikit_learn
    from dugs_stream.lab.drawn_records import Source

    if not quick:
        require_scikit_learn("dugs calibrate", " --quick does without.")
    plan = _compared(Plan(accept, keep, threshold, of), dimensions, layers, quick=quick)
    written = click.get_current_context().meta[WRITTEN]
    source = Source(paths, fields, most, seed, is_mixed=True)
    with listening() as listener:
        wanted = Wanted(source, plan, written, json_file, output)
        done = run_calibration(settings, wanted, listener)
    show_report(done.report)
    end_study(leave_files(wanted, done), done.report.interrupted)


def _other_thresholds(
    settings: Settings,
    *,
    changelog: bool,
    vectors: Path | None,
    wished: tuple[float, ...],
    json_file: Path | None,
) -> None:
    from dugs_stream.lab.calibrate.other_thresholds import of_changelog, of_state, of_vectors

    with listening() as listener:
        if vectors is not None:
            report = of_vectors(vectors, wished, listener)
        else:
            report = (of_changelog if changelog else of_state)(settings, wished, listener)
    show_list(report)
    end_study(_leave_report(report, json_file), report.interrupted)


def _leave_report(report: ListReport, json_file: Path | None) -> Iterator[tuple[str, Path]]:
    from dugs_stream.commands.written_files import write_report

    if json_file is not None:
        write_report(json_file, report)
        yield "report", json_file


_BASES = {"exact": "exact", "uniques": "at least about", "similarities": "far fewer than"}


def show_list(report: ListReport) -> None:
    """What other thresholds would have kept, on stdout."""
    from rich.table import Table
    from rich.text import Text

    from dugs_stream.cli.console import Tables
    from dugs_stream.ops.logging.lines import printable

    console = Tables()
    is_of_all = report.kind == "vectors"
    records = "" if report.records is None or is_of_all else f" · records {report.records:,}"
    what = "records" if is_of_all else "uniques"
    console.print(Text(printable(f"{report.place} · {what} with vectors {report.vectors:,}{records}")))
    table = Table()
    for column in ("τ", "", "uniques", *(() if is_of_all else ("of the list",))):
        table.add_column(column, justify="right")
    for each in report.thresholds:
        here = " (in force)" if each.threshold == report.in_force else ""
        basis = "not known" if each.uniques is None else _BASES[each.basis]
        uniques = "–" if each.uniques is None else f"{each.uniques:,}"
        of_list = () if is_of_all else (f"{each.of_list:,}",)
        table.add_row(f"{each.threshold:g}{here}", basis, uniques, *of_list)
    console.print(table)
    if not is_of_all:
        legend = "uniques: of all records at that τ; of the list: how many of its own uniques that τ keeps"
        console.print(Text(legend, style="dim"))
    for remark in report.remarks:
        console.print(Text(printable(f"note: {remark}")))


def _compared(
    plan: Plan, dimensions: tuple[int, ...], layers: tuple[LayerChoice, ...], *, quick: bool
) -> Plan:
    from dataclasses import replace

    if quick:
        return replace(plan, dimensions=(), layers=())
    return replace(plan, dimensions=dimensions or plan.dimensions, layers=layers or plan.layers)


def show_report(report: Report) -> None:
    """The facts and the tables on stdout; control characters of a record are escaped."""
    from rich.text import Text

    from dugs_stream.cli.console import Tables
    from dugs_stream.lab.calibrate.page import facts_of
    from dugs_stream.ops.logging.lines import printable

    console = Tables()
    facts = " · ".join(f"{name} {value}" for name, value in facts_of(report).items())
    console.print(Text(printable(facts)))
    _show_proposals(console, report)
    _show_calls(console, report)
    _show_dimensions(console, report)
    _show_layers(console, report)
    if report.value is not None:
        good, poor = report.value.unique_and_good, report.value.unique_and_not
        of = f"{report.value.target}, whose own records have {report.value.own_value:.3f}"
        console.print(Text(printable(f"value for {of}: {good:,} uniques above 0, {poor:,} not")))
    for remark in report.remarks:
        console.print(Text(printable(f"note: {remark}")))
    mebibytes = report.peak_memory_bytes / 2**20
    took = f"{report.seconds:.1f} s, {report.projecting_seconds:.1f} of them projecting; peak memory {mebibytes:,.0f} MiB"
    console.print(Text(took, style="dim"))


def _show_proposals(console: Console, report: Report) -> None:
    from rich.table import Table

    table = Table()
    table.add_column("wish")
    columns = ("τ", "uniques", "share", "last quarter", "classes", f"of {report.chosen.of:,} others")
    for column in columns:
        table.add_column(column, justify="right")
    for each in report.proposals:
        chosen = " (chosen)" if each == report.chosen else ""
        classes = "–" if each.classes is None else f"{each.classes:,}"
        table.add_row(each.wish + chosen, *_numbers(each, f"{each.threshold:.5g}"), classes, each.told())
    table.add_row("as configured", *_numbers(report.configured, f"{report.configured.threshold:g}"))
    console.print(table)


def _numbers(point: CurvePoint, threshold: str) -> tuple[str, ...]:
    return threshold, f"{point.uniques:,}", f"{point.share:.1%}", f"{point.late_share:.1%}"


def _show_calls(console: Console, report: Report) -> None:
    from rich.table import Table
    from rich.text import Text

    from dugs_stream.ops.logging.lines import printable

    table = Table(title=f"closest calls at τ = {report.chosen.threshold:.5g}", title_justify="left")
    table.add_column("verdict")
    table.add_column("cosine", justify="right")
    table.add_column("record", overflow="fold")
    table.add_column("nearest unique", overflow="fold")

    def rows(verdict: str, calls: list[Call]) -> None:
        for call in calls[:_CALLS_SHOWN]:
            sides = [_of(each.key or each.id, each.label) for each in (call.record, call.nearest)]
            table.add_row(verdict, f"{call.similarity:.5f}", *(Text(printable(each)) for each in sides))

    rows("duplicate", report.closest.duplicates)
    rows("unique", report.closest.uniques)
    if table.row_count:
        console.print(table)


_CALLS_SHOWN = 3


def _of(name: str, label: str | None) -> str:
    return name if label is None else f"{name} ({label})"


def _show_dimensions(console: Console, report: Report) -> None:
    from rich.table import Table

    if not report.dimensions:
        return
    table = Table()
    for column in ("k", "error of a cosine", "largest", "noise floor", "records/s", "bytes a unique"):
        table.add_column(column, justify="right")
    for each in report.dimensions:
        table.add_row(*each.cells())
    console.print(table)


def _show_layers(console: Console, report: Report) -> None:
    from rich.table import Table
    from rich.text import Text

    from dugs_stream.ops.logging.lines import printable

    if not report.layers:
        return
    table = Table()
    table.add_column("gradient.layers", overflow="fold")
    for column in ("parameters", "separation of labels", "records/s"):
        table.add_column(column, justify="right")
    for each in report.layers:
        name = Text(printable(each.choice + (" (configured)" if each.is_configured else "")))
        if each.failed is not None:
            table.add_row(name, Text(printable(f"refused: {each.failed}"[:_LONGEST])), "–", "–")
            continue
        table.add_row(
            name,
            f"{each.parameters:,}",
            "–" if each.separation is None else f"{each.separation:.3f}",
            "–" if each.rate is None else f"{each.rate:,.0f}",
        )
    console.print(table)


_LONGEST = 160
