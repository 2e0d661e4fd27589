"""Summary of the demo: its numbers as a record, and as tables for people.

`render` returns something that rich can print; nothing here prints.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from dugs_stream.lab.demo.controls import RandomPicks
from dugs_stream.records import Verdict


@dataclass(frozen=True, slots=True)
class Run:
    """The results of a run with given labels, and the settings it judged by.

    classes        number of classes in the stream
    classes_found  how many of them are among the uniques
    """

    verdicts: Mapping[Verdict, int]
    threshold: float
    dimension: int
    layers: tuple[str, ...]
    classes: int
    classes_found: int

    @property
    def records(self) -> int:
        """How many records were judged."""
        return sum(self.verdicts.values())

    @property
    def uniques(self) -> int:
        """How many of them are unique."""
        return self.verdicts[Verdict.UNIQUE]


@dataclass(frozen=True, slots=True)
class UnlabelledRun:
    """The same stream judged without labels: number of uniques, and of true classes among them."""

    uniques: int
    classes: int


@dataclass(frozen=True, slots=True)
class Summary:
    """The demo in numbers.

    run             results of the run with given labels
    accuracy        of the model, on digits neither trained on nor streamed
    first_covering  uniques, in order of discovery, that it took to see every class; None: not all were seen
    """

    run: Run
    accuracy: float
    first_covering: int | None
    records_per_second: float
    random: RandomPicks
    unlabelled: UnlabelledRun


_ALMOST_BY_CONSTRUCTION = (
    "With its label given, a gradient points along its class, so the first row finds the classes almost by "
    "construction; the rows below it do without labels."
)


def render(summary: Summary) -> RenderableType:
    """The two tables: verdicts and settings, and the classes found by the run and by the controls."""
    note = Padding(Text(_ALMOST_BY_CONSTRUCTION, style="dim"), (0, 1))
    return Group(_verdicts_table(summary), _classes_table(summary), note)


def _verdicts_table(summary: Summary) -> Table:
    run = summary.run
    table = Table(title="Verdicts", title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_row("records", f"{run.records:,}")
    for verdict in (each for each in Verdict if each is not Verdict.SKIPPED):  # digits hold no deletes
        table.add_row(verdict.value.replace("_", " "), f"{run.verdicts[verdict]:,}")
    table.add_section()
    table.add_row("threshold τ", f"{run.threshold:g}")
    table.add_row("dimension k", f"{run.dimension:,}")
    table.add_row("layers", Text(", ".join(run.layers)))  # Text: a layer's name is never markup
    table.add_row("records/s", f"{summary.records_per_second:,.0f}")
    table.add_row("model's accuracy", f"{summary.accuracy:.1%}")
    return table


def _classes_table(summary: Summary) -> Table:
    run, random = summary.run, summary.random
    table = Table(title="Classes found", title_justify="left")
    table.add_column("chosen by")
    table.add_column("records", justify="right")
    table.add_column("classes", justify="right")
    table.add_column("")
    first = "" if summary.first_covering is None else f"all by the first {summary.first_covering}"
    table.add_row(
        "uniques, labels given", f"{run.uniques:,}", _of(run.classes_found, run), first, style="bold"
    )
    unlabelled = summary.unlabelled
    table.add_row(
        "uniques, no label seen",
        f"{unlabelled.uniques:,}",
        _of(unlabelled.classes, run),
        "gradient: {loss: energy, temperature: 2}",
    )
    spread = f"mean of {random.draws:,} draws; 5–95 %: {random.low} to {random.high}"
    table.add_row("random picks", f"{random.size:,}", f"{random.mean:.1f} of {run.classes}", spread)
    return table


def _of(found: int, run: Run) -> str:
    return f"{found} of {run.classes}"
