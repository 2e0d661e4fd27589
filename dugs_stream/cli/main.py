"""The command line `dugs`: its commands together, and how each of them ends.

A command parses, calls `commands` or `app`, and prints: data to stdout, everything else to stderr.
Heavy modules are imported inside the commands, so that `dugs --help` does not wait two seconds for PyTorch.
"""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn

import click

from dugs_stream.cli.calibrate import calibrate
from dugs_stream.cli.clusters import clusters
from dugs_stream.cli.daemon import check, run, schema
from dugs_stream.cli.encoding import escape_what_cannot_be_encoded
from dugs_stream.cli.evaluate import evaluate
from dugs_stream.cli.files import demo, scan, send, tail
from dugs_stream.cli.index import index
from dugs_stream.cli.lemma import jl
from dugs_stream.cli.options import Group, command
from dugs_stream.cli.records import explain, retry
from dugs_stream.cli.spinning import keep_spinning_short
from dugs_stream.errors import ConfigurationError, DugsError


class _ReaderLeftError(Exception):
    """Our output's reader closed it. Not an OSError, which click would turn into exit code 1."""


class _Program(Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise _ReaderLeftError from error


@click.group(
    cls=_Program,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="dugs demo\ndugs run -c config/embedded.yaml",
)
@click.version_option(package_name="dugs-stream")
def dugs() -> None:
    """Which records of a stream teach your model something new?

    dugs-stream reads samples from a log, takes the gradient each one would give your trained model, and
    publishes those whose gradient points where no earlier one did. Try `dugs demo` first.
    """


@command("dugs completion bash > ~/.local/share/bash-completion/completions/dugs")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for a shell. It completes commands, options and their values."""
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None  # noqa: S101  click has the three that are offered
    click.echo(found(dugs, {}, "dugs", "_DUGS_COMPLETE").source())


for _each in (
    run,
    check,
    schema,
    send,
    tail,
    scan,
    demo,
    explain,
    retry,
    index,
    calibrate,
    clusters,
    evaluate,
    jl,
    completion,
):
    dugs.add_command(_each)


def main() -> NoReturn:
    """Run the command line; errors raised on purpose become a line on stderr and their exit code."""
    keep_spinning_short(os.environ)
    escape_what_cannot_be_encoded()
    if "" not in sys.path:
        sys.path.insert(0, "")  # a user's factory or loss lies in the folder that the command is given in
    try:
        dugs.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt) as error:
        # click raises its own for an interrupt, which may say what there was by then.
        click.echo(f"stopped {error.__cause__ or error}".strip(), err=True)
        sys.exit(130)
    except DugsError as error:
        for problem in error.problems if isinstance(error, ConfigurationError) else [error]:
            click.echo(f"dugs: {problem}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:  # a full disk, a folder that may not be written: the user can fix it
        click.echo(f"dugs: the operating system refused: {error}", err=True)
        sys.exit(1)
    except _ReaderLeftError:
        # The interpreter flushes stdout once more as it ends; what is left is discarded silently.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    sys.exit(0)
