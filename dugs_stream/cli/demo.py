"""Terminal output of the demos: stages, a progress bar, the table of results."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType

from dugs_stream.cli.console import bars_on
from dugs_stream.lab.demo.configuration import commands_for
from dugs_stream.lab.demo.demo import DemoResult
from dugs_stream.lab.demo.imagenette import imagenette_command
from dugs_stream.lab.demo.summary import render
from dugs_stream.lab.text_demo.demo import TextDemoResult
from dugs_stream.lab.text_demo.summary import render as render_texts


@contextmanager
def demo_progress() -> Iterator[tuple[Callable[[str], None], Callable[[int, int, str], None]]]:
    """A line on stderr for each stage, and on a terminal one bar under them: told by (stage, progress)."""
    console = Console(stderr=True)
    with bars_on(console) as bars:

        def stage(text: str) -> None:
            for task in bars.task_ids:
                bars.remove_task(task)
            console.print(f"• {text}", style="bold", markup=False, highlight=False)

        def progress(done: int, total: int, note: str) -> None:
            task = bars.task_ids[0] if bars.task_ids else bars.add_task(" ", note=note)
            bars.update(task, completed=done, total=total, note=note)

        yield stage, progress


def show_demo(result: DemoResult) -> None:
    """Print the demo's tables, the paths of its files, and the command for an Imagenette folder on stdout."""
    files = result.files
    _show(
        render(result.summary),
        f"   events  {files.uniques}",
        f" pictures  {files.contact_sheet}",
        f"  gallery  {files.gallery}",
        *commands_for(files.configuration),
        f"On Imagenette, with your weights: {imagenette_command(files.imagenette)}",
    )


def show_text_demo(result: TextDemoResult) -> None:
    """Print the text demo's tables, the paths of its files, and the command for a folder of texts on stdout."""
    files = result.files
    _show(
        render_texts(result.summary),
        f"   events  {files.uniques}",
        f"  gallery  {files.gallery}",
        *commands_for(files.configuration),
        f"Your own texts, by the same model: dugs scan -c {shlex.quote(str(files.configuration.resolve()))} texts/",
    )


def _show(tables: RenderableType, *lines: str) -> None:
    console = Console()
    console.print(tables)
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
