"""Terminal output of the demo: stages, a progress bar, the table of results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, TaskID

from dugs_stream.cli.console import bars_on
from dugs_stream.lab.demo.demo import DemoResult
from dugs_stream.lab.demo.imagenette import imagenette_command
from dugs_stream.lab.demo.summary import render
from dugs_stream.lab.demo.training import Step


class DemoProgress:
    """A line for each stage of the demo, and one bar for training and streaming."""

    def __init__(self, console: Console, bars: Progress) -> None:
        self._console = console
        self._bars = bars
        self._task: TaskID | None = None

    def stage(self, text: str) -> None:
        """A new stage begins."""
        self._drop()
        self._console.print(f"• {text}", style="bold", markup=False, highlight=False)

    def trained(self, step: Step) -> None:
        """A mini-batch was trained on, or an epoch measured."""
        accuracy = "" if step.accuracy is None else f"  accuracy {step.accuracy:.2f}"
        self._move(step.step, step.steps, f"epoch {step.epoch}  loss {step.loss:.3f}{accuracy}")

    def streamed(self, done: int, total: int) -> None:
        """`done` of `total` records of the stream are decided."""
        self._move(done, total, "records")

    def _move(self, done: int, total: int, note: str) -> None:
        if self._task is None:
            self._task = self._bars.add_task(" ", total=total, note=note)
        self._bars.update(self._task, completed=done, total=total, note=note)

    def _drop(self) -> None:
        if self._task is not None:
            self._bars.remove_task(self._task)
            self._task = None


@contextmanager
def demo_progress() -> Iterator[DemoProgress]:
    """Stages as lines on stderr, with a bar under them on a terminal."""
    console = Console(stderr=True)
    with bars_on(console) as bars:
        yield DemoProgress(console, bars)


def show_demo(result: DemoResult) -> None:
    """Print the demo's tables, the paths of its files, and the command for an Imagenette folder on stdout."""
    console = Console()
    console.print(render(result.summary))
    files = result.files
    for what, path in (
        ("events", files.uniques),
        ("pictures", files.contact_sheet),
        ("gallery", files.gallery),
    ):
        console.print(f"{what:>9}  {path}", markup=False, highlight=False, soft_wrap=True)
    command = imagenette_command(files.imagenette)
    console.print(
        f"On Imagenette, with your weights: {command}", markup=False, highlight=False, soft_wrap=True
    )
