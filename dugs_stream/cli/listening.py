"""Terminal side of a study: its stages and a bar on stderr, and the first Ctrl-C as a wish to finish early."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dugs_stream.lab.listener import Listener


@contextmanager
def listening() -> Iterator[Listener]:
    """Stages and a bar on stderr; the first Ctrl-C asks to finish with what is done, the second ends at once."""
    from rich.console import Console

    from dugs_stream.cli.console import bars_on
    from dugs_stream.lab.listener import Listener

    console = Console(stderr=True)
    with bars_on(console) as bars, _first_interrupt(console.print) as wants_stop:

        def stage(text: str) -> None:
            for task in bars.task_ids:
                bars.remove_task(task)
            if console.is_terminal:
                console.print(f"• {text}", style="bold", markup=False, highlight=False)

        def progress(done: int, total: int | None) -> None:
            task = bars.task_ids[0] if bars.task_ids else bars.add_task(" ", note="")
            bars.update(task, completed=done, total=total)

        yield Listener(stage, progress, wants_stop)


@contextmanager
def _first_interrupt(say: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """Whether SIGINT came once; after that it has its usual effect."""
    asked = False

    def remember(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        say("finishing with what is done so far; Ctrl-C again to leave at once")

    try:
        before: Any = signal.signal(signal.SIGINT, remember)
    except ValueError:  # not the main thread, which alone hears of signals
        yield lambda: False
        return
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)
