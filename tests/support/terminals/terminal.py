"""A command on a real pseudo-terminal: what its user sees, and the state it leaves the terminal in."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.terminals.commands import start_dugs

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


class Terminal:
    """The user's end, 120 columns wide; everything written to it is kept."""

    def __init__(self) -> None:
        self._ours, self.theirs = pty.openpty()
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self.modes_before = self.modes
        self._written = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                piece = os.read(self._ours, 65536)
            except OSError:  # Linux's way to say that the other end is closed
                return
            if not piece:
                return
            self._written += piece

    @property
    def raw(self) -> str:
        """Everything, escape sequences included."""
        return self._written.decode()

    @property
    def text(self) -> str:
        """What was written without its escape sequences; drawings stand one under the other."""
        return _ESCAPE.sub("", self.raw)

    @property
    def modes(self) -> list[Any]:
        """Echo, line editing and the like."""
        return termios.tcgetattr(self.theirs)

    def close(self) -> None:
        """Nobody looks any more."""
        os.close(self.theirs)
        self._reader.join(10)
        os.close(self._ours)


@contextmanager
def on_a_terminal(
    *arguments: str | Path, environ: Mapping[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[str], Terminal]]:
    """`dugs` with its stderr on a terminal, until the block ends; what is left of it is killed."""
    terminal = Terminal()
    with _environment({"TERM": "xterm-256color", **(environ or {})}):
        process = start_dugs(*arguments, stderr=terminal.theirs)
    try:
        yield process, terminal
    finally:
        process.kill()
        process.communicate()
        terminal.close()


@contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TTY_COMPATIBLE"):
        os.environ.pop(name, None)
    os.environ.update(changes)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
