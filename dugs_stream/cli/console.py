"""Terminal output for people: progress bars on stderr (only on a terminal), tables, sentences."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from dugs_stream.commands.explain import Explanation
from dugs_stream.commands.retry import DeadLetters
from dugs_stream.commands.threshold_table import ThresholdTable
from dugs_stream.commands.written_files import naming
from dugs_stream.errors import Finding
from dugs_stream.ops.logging.lines import printable


class Tables(Console):
    """Tables on stdout. A reader that leaves (`| head`) misses the rest, and the command goes on: it has files to write."""

    def on_broken_pipe(self) -> None:
        """See `Console`, whose own way ends the process."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def bars_on(console: Console) -> Progress:
    """Bars with a description, the count and the remaining time; nothing at all away from a terminal."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """A progress bar on stderr, moved by calling the result with (done, total)."""
    with bars_on(Console(stderr=True)) as bars:
        task = bars.add_task(what, total=None, note="")
        yield lambda done, total: bars.update(task, completed=done, total=total)


@contextmanager
def waiting() -> Iterator[Callable[[str], None]]:
    """A spinner on stderr that says what is done now; away from a terminal a line for each."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda doing: click.echo(f"{doing} …", err=True)
        return
    with console.status("") as status:
        yield status.update


@contextmanager
def lines_to(output: Path | None) -> Iterator[Callable[[str], None]]:
    """Write lines to a file (its folder is made), or to stdout if none is named."""
    if output is None:
        yield print
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    file = output.open("w", encoding="utf-8")

    def write(line: str) -> None:
        with naming(output):
            print(line, file=file)

    try:
        yield write
    finally:
        with naming(output):
            file.close()


def reader_has_left() -> bool:
    """Whether stdout is a pipe whose reader has closed it: `dugs tail --follow | head -1` need not wait for an event."""
    try:
        watched = select.poll()
        watched.register(sys.stdout.fileno(), 0)
        return any(state & (select.POLLERR | select.POLLHUP) for _, state in watched.poll(0))
    except (AttributeError, OSError, ValueError):  # no such call on this system, or stdout is not a file
        return False


def show_findings(findings: Sequence[Finding]) -> None:
    """A table of what `dugs check --deep` tried, one row a try."""
    table = Table(show_lines=False)
    for column in ("", "tried", "found"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        outcome = "note" if finding.is_note else "ok" if finding.passed else "FAILED"
        outcome = outcome if finding.was_tried else "–"
        table.add_row(outcome, Text(finding.tried), Text(finding.found))
    Console().print(table)


def show_thresholds(table: ThresholdTable) -> None:
    """On stderr, how many records would be uniques at other τ; nothing if none was judged."""
    rows = table.rows()
    if not rows:
        return
    is_exact = all(each.is_exact for each in rows)
    of = f"{table.judged:,} record{'' if table.judged == 1 else 's'} with a gradient"
    how = (
        "exact"
        if is_exact
        else f"estimated from {table.drawn:,} of them, drawn at random and judged again; dugs calibrate is exact on a sample"
    )
    shown = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("τ", "uniques", "share", ""):
        shown.add_column(column, justify="left" if not column else "right")
    for each in rows:
        about = "" if each.is_exact else "≈ "
        in_force = "this run" if each.threshold == table.threshold else ""
        share = f"{each.uniques / table.judged:.1%}"
        shown.add_row(f"{each.threshold:g}", f"{about}{each.uniques:,}", share, in_force)
    console = Console(stderr=True)
    console.print(Text(f"uniques at other thresholds, of {of}: {how}"))
    console.print(shown)


def show_explanation(found: Explanation) -> None:
    """A decision for people, on stdout; control characters of a record are escaped."""
    console = Console()
    event, threshold = found.event, float(found.event["threshold"])
    console.print(
        Text(f"{printable(event['id'])} is {_VERDICTS.get(event['type'], event['type'])}", style="bold")
    )
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in (
        ("similarity", _similarity(event, threshold)),
        ("nearest", _nearest(event, found.nearest)),
        ("gradient norm", _number(event.get("gradient_norm"))),
        ("label", _label(event)),
        ("reason", ": ".join(str(event[part]) for part in ("reason", "error") if part in event)),
        ("sequence", "" if event.get("sequence") is None else f"#{event['sequence']}"),
        ("key", str(event["source"].get("key") or "")),
        ("model", f"{event['model']['name']} {event['model']['fingerprint']}"),
        ("decided", str(event["time"])),
        ("found at", found.found_at),
    ):
        if value:
            table.add_row(Text(name, style="dim"), Text(printable(value)))
    console.print(table)


_VERDICTS = {
    "unique": "unique",
    "duplicate": "a duplicate",
    "no_gradient": "no_gradient: it has nothing to teach the model",
    "rejected": "rejected",
    "skipped": "skipped: it holds no sample (a delete, or what the codec passes over)",
}


def _similarity(event: Mapping[str, Any], threshold: float) -> str:
    similarity, bound = event.get("similarity"), event.get("similarity_bound")
    if similarity is None and bound is not None:
        return f"at most {bound:.4f} to any earlier unique, below τ = {threshold:g}"
    if similarity is None:
        return "none: the first unique" if event["type"] == "unique" else ""
    distance = similarity - threshold
    side = "below" if distance < 0 else "above"
    return f"{similarity:.4f} to the nearest unique, {abs(distance):.4f} {side} τ = {threshold:g}"


def _nearest(event: Mapping[str, Any], nearest: Mapping[str, Any] | None) -> str:
    named = event.get("nearest")
    if named is None:
        return ""
    place = f"#{named['sequence']} {named['id']}"
    if nearest is None:
        return f"{place} (its own event is not on the topic any more)"
    key = nearest["source"].get("key")
    parts = (
        place,
        f"label {_label(nearest)}" if nearest.get("label") is not None else "",
        f"norm {_number(nearest.get('gradient_norm'))}",
        f"key {key}" if key is not None else "",
        f"decided {nearest['time']}",
    )
    return " · ".join(part for part in parts if part)


def _label(event: Mapping[str, Any]) -> str:
    if event.get("label") is None:
        return ""
    named = f"{event['label_name']} ({event['label']})" if "label_name" in event else str(event["label"])
    return f"{named}, {event['label_source']}"


def _number(number: float | None) -> str:
    return "" if number is None else f"{number:.4g}"


def lines_on_letters(found: DeadLetters, topic: str) -> list[str]:
    """What a retry would put back, and what it would not."""
    reasons = ", ".join(f"{count} {reason}" for reason, count in found.chosen.most_common())
    lines = [f"to put back: {found.total} ({reasons})" if found.total else "nothing to retry"]
    if found.left:
        lines.append(f"{found.left} more wait for the next retry (--limit)")
    if found.cut:
        lines.append(
            f"{found.cut} cannot go back: too large for {topic}, so only their first bytes are there (dugs_sha256 names "
            "the whole); send them again from their source"
        )
    if found.superseded:
        lines.append(
            f"{found.superseded} are left out: retried before and rejected again, the newest of each goes"
        )
    if found.older:
        lines.append(f"{found.older} older ones are left out (--since); --from-offset brings them back")
    return lines
