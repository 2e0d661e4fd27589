"""The commands about the index of uniques: info, verify, export, reset, adopt-offsets."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from dugs_stream.cli.options import Group, Settings, configured, print_json, yes


@click.group(cls=Group, epilog="dugs index info -c config/kafka.yaml\ndugs index export -o exported/")
def index() -> None:
    """Inspect and repair the index of uniques."""


@index.command(epilog="dugs index info -c config/kafka.yaml")
@configured
def info(settings: Settings) -> None:
    """Print what the state folder holds, as one JSON document."""
    from dugs_stream.commands.index import info

    print_json(info(settings))


@index.command(epilog="dugs index verify -c config/kafka.yaml")
@configured
def verify(settings: Settings) -> None:
    """Compare the state folder with the changelog. Rows that only the changelog has are no difference."""
    from dugs_stream.commands.verify import verify

    verification = verify(settings)
    click.echo(str(verification))
    sys.exit(0 if verification.is_equal else 1)


@index.command(epilog="dugs index export -c config/kafka.yaml -o exported/")
@configured
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False), required=True,
    help="Folder for the two files; it is made if missing.",
)  # fmt: skip
def export(settings: Settings, *, output: Path) -> None:
    """Export every committed unique. Both vectors.npy (uniques, k) and uniques.jsonl are in sequence order."""
    from dugs_stream.commands.index import export

    uniques = export(settings, output)
    click.echo(f"exported {uniques} uniques to {output}", err=True)


@index.command(epilog="dugs index reset -c config/kafka.yaml --yes")
@configured
@yes
def reset(settings: Settings, *, yes: bool) -> None:
    """Empty the state folder. The next start rebuilds it from the changelog; no decision is lost."""
    from dugs_stream.commands.index import reset, what_reset_does

    click.echo(what_reset_does(settings), err=True)
    if not yes:
        click.confirm(f"Delete everything in {settings.state.dir}?", abort=True, err=True)
    reset(settings)
    click.echo(f"{settings.state.dir} is empty; the next `dugs run` replays the changelog.", err=True)


@index.command("adopt-offsets", epilog="dugs index adopt-offsets -c config/kafka.yaml --yes")
@configured
@yes
def adopt_offsets(settings: Settings, *, yes: bool) -> None:
    """Accept the group's offsets over the changelog's. Records in between are skipped or decided again."""
    from dugs_stream.app.daemon import run_daemon
    from dugs_stream.commands.index import adoptions

    found = adoptions(settings)
    if not found:
        click.echo("Nothing to adopt: the group's offsets and the changelog's agree.", err=True)
        return
    for adoption in found:
        click.echo(str(adoption), err=True)
    click.echo("Stop every instance first. One commit without records writes the offsets down.", err=True)
    if not yes:
        click.confirm(f"Continue from where group {settings.input.group!r} is now?", abort=True, err=True)
    run_daemon(settings, adopt_offsets=True)
    click.echo("The group's offsets are in the changelog now; start the daemon again.", err=True)
