"""The command `dugs`: each command parses, calls the application, prints. Data to stdout, all else to stderr.

Heavy modules are imported inside the commands, so that `dugs --help` does not wait two seconds for PyTorch.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec

import click

from dugs_stream.cli.options import REASONS, Since
from dugs_stream.errors import ConfigurationError, DugsError

if TYPE_CHECKING:
    from dugs_stream.config import Settings

P = ParamSpec("P")


class _ReaderLeftError(Exception):
    """Whoever read our output closed it. Not an OSError, which click would turn into exit code 1."""


class _Example(click.Command):
    """A command whose help ends with an example, kept line by line."""

    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.epilog:
            with formatter.section("Example"):
                for line in self.epilog.splitlines():
                    formatter.write_text(line)


class _Group(_Example, click.Group):
    command_class = _Example
    group_class = type

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise _ReaderLeftError from error


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="dugs demo\ndugs run -c config/embedded.yaml",
)
@click.version_option(package_name="dugs-stream")
def dugs() -> None:
    """Which records of a stream teach your model something new?

    dugs-stream reads samples from a log, takes the gradient each one would give your trained model, and
    publishes those whose gradient points where no earlier one did. Try `dugs demo` first.
    """


def main() -> NoReturn:
    """Run the command line; errors raised on purpose become a line on stderr and their exit code."""
    if "" not in sys.path:
        sys.path.insert(0, "")  # a user's factory or loss lies in the folder that the command is given in
    try:
        dugs.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        sys.exit(130)
    except ConfigurationError as error:
        for problem in error.problems:
            click.echo(f"dugs: {problem}", err=True)
        sys.exit(error.exit_code)
    except DugsError as error:
        click.echo(f"dugs: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:  # a full disk, a folder that may not be written: the user's to mend
        click.echo(f"dugs: the operating system refused: {error}", err=True)
        sys.exit(1)
    except _ReaderLeftError:
        # The interpreter flushes stdout once more as it ends; what is left goes nowhere, without a word.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    sys.exit(0)


# -- what several commands share ---------------------------------------------------------------------------

_config = click.option(
    "-c",
    "--config",
    "config",
    type=click.Path(path_type=Path),
    help="Configuration in YAML; defaults where omitted.",
)
_set = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="SECTION.KEY=VALUE",
    help="Override one setting; may be repeated.",
)
_paths = click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))


def configured(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command -c and --set, and hand it the loaded settings as its first argument."""

    def load(config: Path | None, overrides: Sequence[str], **rest: Any) -> None:
        from dugs_stream.config import load_settings
        from dugs_stream.ops.logging.configure import configure_logs

        settings = load_settings(config, overrides)
        configure_logs("warning", settings.logging.format)  # `dugs run` says more
        command(settings, **rest)

    load.__name__, load.__doc__ = command.__name__, command.__doc__
    load.__click_params__ = getattr(command, "__click_params__", [])  # type: ignore[attr-defined]  # click's own way
    return _config(_set(load))


def print_json(document: Any) -> None:
    """One JSON document a line, readable by any tool behind a pipe."""
    click.echo(json.dumps(document, ensure_ascii=False))


# -- the daemon and what stands around it ------------------------------------------------------------------


@dugs.command(epilog="dugs run -c config/kafka.yaml\ndugs run --set selection.threshold=0.5 --drain")
@configured
@click.option(
    "--drain", is_flag=True, help="Stop once the input's end, as of the start, is decided and committed."
)
@click.option("--quiet", is_flag=True, help="No live summary on a terminal: the log alone.")
def run(settings: Settings, *, drain: bool, quiet: bool) -> None:
    """Run the daemon until SIGTERM: read samples, judge them, publish the unique ones."""
    from dugs_stream.app import daemon as app
    from dugs_stream.ops import live_summary

    is_json = settings.logging.format == "json"
    is_live = not (quiet or is_json) and live_summary.suits(sys.stderr, os.environ)
    try:
        app.run_daemon(
            settings, drain=drain, summary=live_summary.LiveSummary(sys.stderr) if is_live else None
        )
    except Exception as error:
        if not is_json:
            raise
        sys.exit(getattr(error, "exit_code", 1))  # its last line said why; another would be no JSON


@dugs.command(epilog="dugs check -c config/kafka.yaml --deep")
@configured
@click.option(
    "--deep", is_flag=True, help="Also load the model, probe it, and try the log and the state folder."
)
def check(settings: Settings, *, deep: bool) -> None:
    """Every problem of the configuration at once, each with its place and its way out."""
    from dugs_stream.config import warnings

    for warning in warnings(settings):
        click.echo(f"warning: {warning}", err=True)
    click.echo("The configuration is valid.", err=True)
    if deep:
        from dugs_stream.cli import console as screen
        from dugs_stream.commands import check as checking

        findings = checking.check_deep(settings)
        screen.show_findings(findings)
        if not all(finding.passed for finding in findings):
            sys.exit(1)


@dugs.command(epilog="dugs schema config > dugs.schema.json")
@click.argument("subject", type=click.Choice(["config", "event"]))
def schema(subject: str) -> None:
    """JSON Schema (2020-12) of the configuration or of an event."""
    if subject == "config":
        from dugs_stream.config import config_schema

        document = config_schema()
    else:
        from dugs_stream.outputs.event import event_schema

        document = event_schema()
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


@dugs.command(epilog="dugs send -c config/kafka.yaml photos/ --limit 1000")
@configured
@_paths
@click.option(
    "--repeat", type=click.IntRange(min=1), default=1, show_default=True, help="Send everything so often."
)
@click.option("--limit", type=click.IntRange(min=1), help="Send at most so many records.")
def send(settings: Settings, *, paths: tuple[Path, ...], repeat: int, limit: int | None) -> None:
    """Put files or folders onto the input topic; a file's folder is its class, in the header `label`."""
    from dugs_stream.cli import console as screen
    from dugs_stream.commands import send as tasks

    with screen.counting("sending") as progress:
        sent = tasks.send(settings, paths, repeat=repeat, limit=limit, on_progress=progress)
    click.echo(f"sent {sent} records to {settings.input.topic}", err=True)


@dugs.command(epilog="dugs tail -c config/kafka.yaml --follow | jq .similarity")
@configured
@click.option(
    "--topic", type=click.Choice(["unique", "decisions", "dead-letter"]), default="unique", show_default=True,
    help="Which of the output topics to read.",
)  # fmt: skip
@click.option("--follow", is_flag=True, help="Go on with what comes, until interrupted.")
def tail(settings: Settings, *, topic: str, follow: bool) -> None:
    """Events as JSON lines, from the beginning of the topic."""
    from dugs_stream.cli import console as screen
    from dugs_stream.commands import send as tasks

    for event in tasks.events(settings, topic, follow=follow, stop=screen.reader_has_left):
        print_json(event)


@dugs.command(epilog="dugs scan -c config/embedded.yaml photos/ -o decisions.jsonl")
@configured
@_paths
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Where to write; stdout else."
)
def scan(settings: Settings, *, paths: tuple[Path, ...], output: Path | None) -> None:
    """The same engine over files, in memory: one decision a line, no log, no state."""
    from dugs_stream.cli import console as screen
    from dugs_stream.commands import send as tasks

    with screen.counting("judging") as progress, screen.lines_to(output) as write:
        verdicts = tasks.scan(settings, paths, write, on_progress=progress)
    click.echo(", ".join(f"{count} {verdict}" for verdict, count in verdicts.items()), err=True)


@dugs.command(epilog="dugs demo --out demo-out")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default="demo-out", show_default=True
)
def demo(out: Path) -> None:
    """The main job with nothing to install or start: real digits through AlexNet on the embedded log."""
    from dugs_stream.cli import console as screen
    from dugs_stream.lab.demo.demo import run_demo

    with screen.demo_progress() as announcer:
        result = run_demo(out, announcer)
    screen.show_demo(result)


# -- single records ----------------------------------------------------------------------------------------


@dugs.command(epilog="dugs explain dugs.samples/2/1041 -c config/kafka.yaml\ndugs explain 2/1041 --json")
@configured
@click.argument("record", metavar="ID")
@click.option(
    "--json", "as_json", is_flag=True, help="The event and its nearest unique's as one JSON document."
)
def explain(settings: Settings, *, record: str, as_json: bool) -> None:
    """One decision with its nearest unique. ID is a record's topic/partition/offset, as events name it."""
    from dugs_stream.cli import console as screen
    from dugs_stream.commands import explain as explaining

    named = explaining.RecordId.parse(record, settings.input.topic)
    if named is None:
        raise click.UsageError(
            f"{record!r} is no id: write topic/partition/offset, as in dugs.samples/2/1041."
        )
    with screen.counting("looking") as progress:
        found = explaining.explain(settings, named, on_progress=progress)
    if isinstance(found, explaining.Absence):
        click.echo(f"dugs: no event of {named} on {', '.join(found.searched)}. {found.why}", err=True)
        sys.exit(1)
    if as_json:
        print_json({"event": found.event, "found_at": found.found_at, "nearest": found.nearest})
    else:
        screen.show_explanation(found)


@dugs.command(
    epilog="dugs retry -c config/kafka.yaml --dry-run\ndugs retry --reason label_unknown --since 2h --yes"
)
@configured
@click.option(
    "--reason", "reasons", multiple=True, type=click.Choice(REASONS),
    help="Only those rejected for this reason; may be repeated.",
)  # fmt: skip
@click.option(
    "--limit", type=click.IntRange(min=1), help="At most so many; the rest waits for the next retry."
)
@click.option(
    "--since",
    type=Since(),
    help="Only those rejected since: 90m, 2h, 7d ago, or a time as 2026-11-24T10:15Z.",
)
@click.option(
    "--from-offset", type=click.IntRange(min=0),
    help="From this offset of the dead-letter topic on, whatever was retried before.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Say what would go back, and send nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def retry(
    settings: Settings,
    *,
    reasons: tuple[str, ...],
    limit: int | None,
    since: int | None,
    from_offset: int | None,
    dry_run: bool,
    yes: bool,
) -> None:
    """Put dead letters back on the input topic as they were, each once, after the cause is mended."""
    from dugs_stream.cli import console as screen
    from dugs_stream.commands import retry as retrying

    selection = retrying.Selection(frozenset(reasons), limit, since, from_offset)
    with screen.counting("looking") as progress:
        seen = retrying.look(settings, selection, on_progress=progress)
    for line in screen.lines_on_letters(seen, settings.output.dead_letter_topic):
        click.echo(line, err=True)
    if dry_run or not seen.total:
        return
    if not yes:
        click.confirm(f"Put {seen.total} records back on {settings.input.topic}?", abort=True, err=True)
    with screen.counting("putting back") as progress:
        done = retrying.retry(settings, selection, seen, on_progress=progress)
    click.echo(f"put {done.total} records back on {settings.input.topic}", err=True)


# -- the shell ---------------------------------------------------------------------------------------------


@dugs.command(epilog="dugs completion bash > ~/.local/share/bash-completion/completions/dugs")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """The script that lets a shell complete commands, options and their values."""
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None  # noqa: S101  click has the three that are offered
    click.echo(found(dugs, {}, "dugs", "_DUGS_COMPLETE").source())


# -- the lemma ---------------------------------------------------------------------------------------------


@dugs.command(epilog="dugs jl -n 10000 -e 0.001\ndugs jl -n 1000000 -k 2048")
@click.option(
    "-n", "samples", type=click.IntRange(min=2), required=True, help="How many samples are compared."
)
@click.option("-e", "--epsilon", type=float, help="Largest relative distortion of a squared distance.")
@click.option("-k", "--dimension", type=click.IntRange(min=1), help="Dimensions of the projection.")
def jl(samples: int, epsilon: float | None, dimension: int | None) -> None:
    """The Johnson-Lindenstrauss lemma both ways: k from N and ε, or ε from N and k."""
    from dugs_stream.cli import console as screen
    from dugs_stream.core.sketch import jl as lemma

    if (epsilon is None) == (dimension is None):
        raise click.UsageError("give either -e (to learn k) or -k (to learn ε)")
    try:
        if epsilon is not None:
            lines = screen.lemma_for_epsilon(samples, epsilon)
        else:
            lines = screen.lemma_for_dimension(
                samples, dimension or 0, lemma.epsilon(samples, dimension or 0)
            )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    for line in lines:
        click.echo(line)


# -- the index ---------------------------------------------------------------------------------------------


@dugs.group(cls=_Group, epilog="dugs index info -c config/kafka.yaml\ndugs index export -o exported/")
def index() -> None:
    """What the index of uniques holds, and the ways out that error messages name."""


@index.command(epilog="dugs index info -c config/kafka.yaml")
@configured
def info(settings: Settings) -> None:
    """What the state folder holds, as one JSON document."""
    from dugs_stream.commands import index as inspection

    print_json(inspection.info(settings))


@index.command(epilog="dugs index verify -c config/kafka.yaml")
@configured
def verify(settings: Settings) -> None:
    """Whether the state folder equals the replay of the changelog, up to where the folder stands."""
    from dugs_stream.commands import index as inspection

    verification = inspection.verify(settings)
    click.echo(str(verification))
    sys.exit(0 if verification.is_equal else 1)


@index.command(epilog="dugs index export -c config/kafka.yaml -o exported/")
@configured
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), required=True)
def export(settings: Settings, *, output: Path) -> None:
    """Every committed unique: DIR/vectors.npy (uniques, k) and DIR/uniques.jsonl, in sequence order."""
    from dugs_stream.commands import index as inspection

    uniques = inspection.export(settings, output)
    click.echo(f"exported {uniques} uniques to {output}", err=True)


@index.command(epilog="dugs index reset -c config/kafka.yaml --yes")
@configured
@click.option("--yes", is_flag=True, help="Do not ask.")
def reset(settings: Settings, *, yes: bool) -> None:
    """Forget the state folder; the next start rebuilds it from the changelog. No decision is lost."""
    from dugs_stream.commands import index as inspection

    click.echo(inspection.what_reset_does(settings), err=True)
    if not yes:
        click.confirm(f"Delete everything in {settings.state.dir}?", abort=True, err=True)
    inspection.reset(settings)
    click.echo(f"{settings.state.dir} is empty; the next `dugs run` replays the changelog.", err=True)


@index.command("adopt-offsets", epilog="dugs index adopt-offsets -c config/kafka.yaml --yes")
@configured
@click.option("--yes", is_flag=True, help="Do not ask.")
def adopt_offsets(settings: Settings, *, yes: bool) -> None:
    """Accept the group's offsets over the changelog's. Records in between are skipped, or decided again."""
    from dugs_stream.app import daemon as app
    from dugs_stream.commands import index as inspection

    adoptions = inspection.adoptions(settings)
    if not adoptions:
        click.echo("Nothing to adopt: the group's offsets and the changelog's agree.", err=True)
        return
    for adoption in adoptions:
        click.echo(str(adoption), err=True)
    click.echo("Every instance must be stopped. One commit of no record writes this down.", err=True)
    if not yes:
        click.confirm(f"Go on from where group {settings.input.group!r} stands now?", abort=True, err=True)
    app.adopt_offsets(settings)
    click.echo("The group's offsets are in the changelog now; start the daemon again.", err=True)
