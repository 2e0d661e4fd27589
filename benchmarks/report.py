"""What came out? Measurements with their targets, as one table for people and as JSON for the record."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.environment import describe


@dataclass(frozen=True, slots=True)
class Target:
    """What the number should come to."""

    kind: Literal["at most", "at least"]
    limit: float

    def is_met_by(self, value: float) -> bool:
        """Whether the value is on the right side of the limit."""
        return value <= self.limit if self.kind == "at most" else value >= self.limit

    def __str__(self) -> str:
        """As the table shows it: ≤ 1.1."""
        return f"{'≤' if self.kind == 'at most' else '≥'} {self.limit:g}"


@dataclass(frozen=True, slots=True)
class Measurement:
    """One number.

    value      None where nothing could be measured; `note` says why
    low, high  its spread, see `Report.spread`; None where it has none
    target     None where the number only stands beside others
    facts      what else a reader may want: every single run, seconds
    note       stands below the case in the table
    """

    case: str
    value: float | None
    low: float | None = None
    high: float | None = None
    target: Target | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


def unmeasured(case: str, target: Target, error: Exception) -> Measurement:
    """A case that does not run is a line of the table, too."""
    return Measurement(case, None, target=target, note=f"{type(error).__name__}: {error}"[:300])


@dataclass(frozen=True, slots=True)
class Report:
    """One benchmark's answer.

    question  what is divided by what
    spread    what the interval beside each number is
    is_quick  at toy size: it shows that the benchmark runs, its numbers mean nothing
    """

    name: str
    question: str
    spread: str
    seed: int
    is_quick: bool
    measurements: Sequence[Measurement]


def save(report: Report, folder: Path) -> Path:
    """Write FOLDER/NAME.json, with the machine it was measured on; replaces an earlier one."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {**asdict(report), "measured_at": datetime.now(UTC).isoformat(), "environment": describe()}
    name = f"{report.name}-quick" if report.is_quick else report.name
    path = folder / f"{name}.json"
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def show(reports: Sequence[Report], console: Console) -> None:
    """Print all reports as one table, and what it was measured on."""
    table = Table(title="Measured in this run", title_justify="left")
    table.add_column("", min_width=28)
    table.add_column("measured", justify="right", no_wrap=True)
    table.add_column("spread", justify="right", no_wrap=True)
    table.add_column("target", no_wrap=True)
    for report in reports:
        table.add_row(f"[bold]{report.name}[/bold]: {report.question} [dim](spread: {report.spread})[/dim]")
        for measurement in report.measurements:
            value = "–" if measurement.value is None else f"{measurement.value:.3g}"
            note = f"\n    [dim]{escape(measurement.note)}[/dim]" if measurement.note else ""
            case = f"  {measurement.case}{note}"
            table.add_row(case, value, _interval(measurement), _verdict(measurement))
        table.add_section()
    console.print(table)
    console.print(_measured_on(), style="dim", highlight=False)
    if any(report.is_quick for report in reports):
        console.print("At toy size: this shows that the benchmarks run, the numbers mean nothing.")


def _interval(measurement: Measurement) -> str:
    if measurement.low is None or measurement.high is None:
        return ""
    return f"{measurement.low:.3g} – {measurement.high:.3g}"


def _verdict(measurement: Measurement) -> str:
    if measurement.target is None:
        return ""
    if measurement.value is None:
        return f"{measurement.target}"
    is_met = measurement.target.is_met_by(measurement.value)
    return f"{measurement.target} {'[green]met[/green]' if is_met else '[red]missed[/red]'}"


def _measured_on() -> str:
    facts = describe()
    load = os.getloadavg()[0]
    return (
        f"{facts['cpu']}, {facts['cores']} cores, {facts['threads']} threads, load {load:.1f}, "
        f"torch {facts['versions']['torch']}. Numbers vary from machine to machine, and under load from run to run."
    )
