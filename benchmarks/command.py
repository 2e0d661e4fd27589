"""How is a benchmark started? The options that all of them share, and what happens with the answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import torch
from rich.console import Console

from benchmarks.environment import ROOT
from benchmarks.report import Report, save, show

# Not tracked: a run on somebody's laptop is no change to the project. The runs we keep lie one folder up.
_LOCAL_RESULTS = ROOT / "benchmarks" / "results" / "local"


def as_command(
    measures: Sequence[Callable[..., Report]], help_text: str, *, has_cases: bool = False
) -> click.Command:
    """A command that runs each `measure(is_quick)` in turn, prints one table and leaves a JSON file each.

    has_cases  `measure(is_quick, only)` takes a glob over the names of its cases
    """

    @click.command(help=help_text)
    @click.option("--quick", is_flag=True, help="Run everything once at toy size, to see that it runs.")
    @click.option(
        "--threads", type=click.IntRange(min=1), help="Threads of PyTorch; its own default otherwise."
    )
    @click.option(
        "--out",
        type=click.Path(file_okay=False, path_type=Path),
        default=_LOCAL_RESULTS,
        help="Folder for the JSON files; benchmarks/results/local by default.",
    )
    @click.option(
        "--only", default="*", hidden=not has_cases, metavar="GLOB", help="Only cases with such names."
    )
    def command(quick: bool, threads: int | None, out: Path, only: str) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        progress = Console(stderr=True)
        reports = []
        for measure in measures:
            with progress.status("measuring …"):
                reports.append(measure(quick, only) if has_cases else measure(quick))
            progress.print(f"wrote {save(reports[-1], out)}", style="dim", soft_wrap=True)
        show(reports, Console())

    return command


def say(what_comes: str) -> None:
    """A line of progress on stderr, with the CPU minutes that this process took so far."""
    taken = f"{time.process_time() / 60:.1f} CPU min"
    Console(stderr=True).print(f"{what_comes} … ({taken})", style="dim", soft_wrap=True, highlight=False)
