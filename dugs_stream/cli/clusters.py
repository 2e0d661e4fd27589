"""The command clusters: its options, its table, its files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dugs_stream.cli.listening import listening
from dugs_stream.cli.options import FiniteRange, Settings, command, configured, report_file, row_fields, seed
from dugs_stream.cli.study_end import end_study

if TYPE_CHECKING:
    from dugs_stream.inputs.rows.fields import RowFields
    from dugs_stream.lab.clusters.report import Report

    _Range = click.ParamType[tuple[int, int]]
else:  # older releases of click have no generic types
    _Range = click.ParamType

_ROWS_SHOWN = 40


class Numbers(_Range):
    """A number of categories, or a range to choose it from: 10, 5-40."""

    name = "number"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        found = re.fullmatch(r"([0-9]{1,6})(?:-([0-9]{1,6}))?", str(value))
        fewest, most = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
        if not 1 <= fewest <= most:
            self.fail(f"{value!r} is not a number of categories; write 10, or a range as 5-40.", param, ctx)
        return fewest, most


@command(
    "dugs clusters -c my.yaml -o clusters/ --save\n"
    "dugs clusters -c my.yaml photos/ --k 5-40\n"
    "dugs clusters exported/ --similarity 0.2 --json clusters.json"
)
@configured
@row_fields
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--changelog", is_flag=True, help="Read the changelog instead of the state folder.")
@click.option(
    "--k", "numbers", type=Numbers(), metavar="N|N-N",
    help="How many categories, or a range to choose from by silhouette.  [default: 2-40]",
)  # fmt: skip
@click.option(
    "--similarity", type=FiniteRange(-1, 1),
    help="Instead of a number: merge categories while their mean cosine is at least this.",
)  # fmt: skip
@seed
@click.option(
    "--map", "layout", type=click.Choice(["auto", "pca", "umap"]), default="auto", show_default=True,
    help="The page's map: two principal directions, or UMAP; auto takes UMAP if umap-learn is installed.",
)  # fmt: skip
@report_file
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False),
    help="Folder for clusters.html and categories.jsonl; it is made if missing.",
)  # fmt: skip
@click.option("--save", is_flag=True, help="Let the daemon's page group its uniques by these categories.")
def clusters(
    settings: Settings,
    *,
    paths: tuple[Path, ...],
    fields: RowFields,
    changelog: bool,
    numbers: tuple[int, int] | None,
    similarity: float | None,
    seed: int,
    layout: str,
    json_file: Path | None,
    output: Path | None,
    save: bool,
) -> None:
    """Group the uniques into kinds of data. Each has its sizes, labels, medoid and edges.

    Without PATHS the uniques are those of the state folder; a daemon may run on it. PATHS are one folder of
    `dugs index export`, or files and folders that are judged as `dugs scan` judges them.
    """
    _check_usage(paths, changelog=changelog, numbers=numbers, similarity=similarity, save=save)
    from dugs_stream.lab.clusters.extra import require_scikit_learn, require_umap

    require_scikit_learn()
    if layout == "umap":
        require_umap()
    from dugs_stream.lab.clusters.clusters import Plan
    from dugs_stream.lab.clusters.run import Wanted, leave_files, run_clusters

    fewest, most = numbers or (2, 40)
    plan = Plan(fewest, most, numbers is None, similarity, seed, layout)  # type: ignore[arg-type]  # click checked it
    wanted = Wanted(paths, fields, changelog, plan, json_file, output, save)
    with listening() as listener:
        done = run_clusters(settings, wanted, listener)
    show_report(done.report)
    end_study(leave_files(settings, wanted, done), done.report.interrupted)


def _check_usage(
    paths: tuple[Path, ...],
    *,
    changelog: bool,
    numbers: tuple[int, int] | None,
    similarity: float | None,
    save: bool,
) -> None:
    if numbers is not None and similarity is not None:
        raise click.UsageError(
            "--k and --similarity exclude each other: a similarity leaves the number open."
        )
    if paths and changelog:
        raise click.UsageError("--changelog reads no PATHS.")
    if paths and save:
        raise click.UsageError("--save is for the state folder of a daemon: leave PATHS out.")


def show_report(report: Report) -> None:
    """The facts and a table of the categories on stdout; control characters of a record are escaped."""
    from rich.table import Table
    from rich.text import Text

    from dugs_stream.cli.console import Tables
    from dugs_stream.lab.clusters.page import facts_of
    from dugs_stream.ops.logging.lines import printable

    console = Tables()
    facts = " · ".join(f"{name} {value}" for name, value in facts_of(report).items())
    console.print(Text(printable(facts)))
    table = Table()
    table.add_column("category", justify="right")
    table.add_column("labels", overflow="fold")
    for column in ("uniques", "duplicates", "cosine"):
        table.add_column(column, justify="right")
    table.add_column("medoid", overflow="fold")
    for item in report.items[:_ROWS_SHOWN]:
        table.add_row(
            str(item.number),
            Text(printable(item.told_labels(3)) or "–"),
            f"{item.uniques:,}",
            "–" if item.duplicates is None else f"{item.duplicates:,}",
            f"{item.similarity:.2f}",
            Text(printable(f"#{item.medoid.sequence} {item.medoid.key or item.medoid.id}")),
        )
    console.print(table)
    if report.categories > _ROWS_SHOWN:
        console.print(
            Text(f"{report.categories - _ROWS_SHOWN:,} smaller categories are left out", style="dim")
        )
    for remark in report.remarks:
        console.print(Text(printable(f"note: {remark}")))
    mebibytes = report.peak_memory_bytes / 2**20
    console.print(Text(f"{report.seconds:.1f} s, peak memory {mebibytes:,.0f} MiB", style="dim"))
