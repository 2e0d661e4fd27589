"""Summary of the text demo: its numbers as a record, and as tables for people.

`render` returns something that rich can print; nothing here prints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from dugs_stream.lab.text_demo.findings import Count
from dugs_stream.lab.text_demo.thresholds import Outcome


@dataclass(frozen=True, slots=True)
class Summary:
    """The demo in numbers.

    originals, repeats  counts by kind of text, and by kind of repeat
    loss                of the language model on held-out paragraphs, in nats a token
    outcomes            the same stream at several thresholds
    """

    originals: Sequence[Count]
    repeats: Sequence[Count]
    threshold: float
    dimension: int
    layers: tuple[str, ...]
    model: str
    records_per_second: float
    outcomes: Sequence[Outcome]

    @property
    def records(self) -> int:
        """How many records were judged."""
        return sum(each.records for each in (*self.originals, *self.repeats))

    @property
    def uniques(self) -> int:
        """How many of them are unique."""
        return sum(each.uniques for each in (*self.originals, *self.repeats))

    @property
    def original_records(self) -> int:
        """How many of them are originals."""
        return sum(each.records for each in self.originals)

    @property
    def alike(self) -> int:
        """Originals judged duplicates that share at least half of their words with the nearest."""
        return sum(each.own for each in self.originals)


def render(summary: Summary) -> RenderableType:
    """The two tables: verdicts by kind of text and of repeat, and what other thresholds would do."""
    return Group(
        _verdicts_table(summary),
        Padding(Text(_notes(summary), style="dim"), (0, 1)),
        _outcomes_table(summary),
    )


def _verdicts_table(summary: Summary) -> Table:
    title = f"{summary.records:,} texts at τ = {summary.threshold:g}: {summary.uniques:,} unique"
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for column in ("streamed", "unique", "duplicate"):
        table.add_column(column, justify="right")
    table.add_column("")
    for each in summary.originals:
        explained = f"{each.own} share half their words with the nearest" if each.duplicates else ""
        _add(table, f"originals: {each.name}", each, explained)
    table.add_section()
    for each in summary.repeats:
        _add(table, f"repeats: {each.name}", each, f"{each.own} name their own original")
    return table


def _add(table: Table, name: str, count: Count, explained: str) -> None:
    table.add_row(name, f"{count.records:,}", f"{count.uniques:,}", f"{count.duplicates:,}", explained)


def _notes(summary: Summary) -> str:
    return (
        f"k = {summary.dimension:,} · layers {', '.join(summary.layers)} · {summary.records_per_second:,.0f} records/s\n"
        f"{summary.model}\n"
        "A repeat whose original was itself a duplicate is held against the unique behind it, and may be unique."
    )


def _outcomes_table(summary: Summary) -> Table:
    table = Table(title="What the threshold does", title_justify="left")
    table.add_column("τ", justify="right")
    exact = sum(each.records for each in summary.repeats if each.name == "exact")
    near = sum(each.records for each in summary.repeats) - exact
    totals = (
        ("originals kept", summary.original_records),
        ("exact repeats caught", exact),
        ("near repeats caught", near),
    )
    for name, total in totals:
        table.add_column(f"{name}, of {total:,}", justify="right")
    for each in summary.outcomes:
        style = "bold" if each.threshold == summary.threshold else ""
        counts = (each.kept, each.exact_caught, each.near_caught)
        table.add_row(f"{each.threshold:g}", *(f"{count:,}" for count in counts), style=style)
    return table
