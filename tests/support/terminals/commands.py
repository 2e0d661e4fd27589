"""The command line as its user has it: `dugs(…)` in this process, or as a process of its own.

In this process it is quick, and goes through the same `main`, exit code, stdout and stderr included. Signals,
pipes and the daemon need a process: `start_dugs`.
"""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
import structlog

from dugs_stream.cli import main as cli
from dugs_stream.ops.logging import configure
from tests.support.daemons.deployment import one_thread
from tests.support.daemons.fork_server import start_forked


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        """What it printed to stdout, each line a JSON document."""
        return [json.loads(line) for line in self.out.splitlines()]


def dugs(*arguments: str | Path, answer: str = "", environ: Mapping[str, str] | None = None) -> Ended:
    """Run a command in this process; `answer` is what its user types, `environ` what is set for it alone."""
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as here,
        redirect_stdout(out),
        redirect_stderr(err),
        one_thread(),
        logging_of_its_own(),
    ):
        here.setattr(sys, "argv", ["dugs", *map(str, arguments)])
        here.setattr(sys, "path", list(sys.path))
        here.setattr(sys, "stdin", io.StringIO(answer))
        for name, value in (environ or {}).items():
            here.setenv(name, value)
        with pytest.raises(SystemExit) as left:
            cli.main()
    assert isinstance(left.value.code, int)
    return Ended(left.value.code, out.getvalue(), err.getvalue())


@contextmanager
def logging_of_its_own() -> Iterator[None]:
    """A command sets up logging for its process; here it ends with the command, as the process would."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    # A test may have left a handler of ours: the command would close it, which tells here what it held back there.
    root.handlers[:] = [each for each in handlers if type(each).__module__ != configure.__name__]
    try:
        yield
    finally:
        for handler in set(root.handlers) - set(handlers):
            handler.close()
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.captureWarnings(False)
        structlog.reset_defaults()


def parse(words: Sequence[str]) -> None:
    """Read the words behind `dugs` as the command line does, without running anything; click.UsageError else."""
    command: click.Command = cli.dugs
    context = click.Context(command, info_name="dugs")
    rest = list(words)
    while isinstance(command, click.Group):
        name = rest.pop(0) if rest else ""
        if name in {"-h", "--help", "--version"}:
            return
        found = command.get_command(context, name)
        if found is None:
            raise click.UsageError(f"No such command {name!r}.")
        command, context = found, click.Context(found, context, name)
    if not {"-h", "--help"} & set(rest):
        command.make_context(command.name or "", rest, context.parent)


def every_command(
    group: click.Group = cli.dugs, *above: str
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """The words that call each command, groups included, and the command."""
    for name, command in sorted(group.commands.items()):
        yield (*above, name), command
        if isinstance(command, click.Group):
            yield from every_command(command, *above, name)


def start_dugs(*arguments: str | Path, **keywords: Any) -> subprocess.Popen[str]:
    """Start a command as a process whose stdout and stderr are pipes, unless `keywords` say otherwise."""
    return start_forked(*arguments, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **keywords})
