"""End of a study's command: the files that it leaves, and what an interrupt cut."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import click

_INTERRUPTED = 130


def end_study(files: Iterable[tuple[str, Path]], interrupted: str | None) -> None:
    """Name each file on stderr as it is written; after an interrupt exit with 130.

    files  what each is and where; written while they are asked for
    """
    for name, path in files:
        # Its reader may have left (`2>&1 | head`), and more files are to be written.
        with suppress(BrokenPipeError):
            click.echo(f"{name:>13}  {path}", err=True)
    if interrupted is not None:
        click.echo(f"interrupted while {interrupted}; what is above was done by then", err=True)
        sys.exit(_INTERRUPTED)
