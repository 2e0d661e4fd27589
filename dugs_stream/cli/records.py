"""The commands about single records: explain, retry."""

from __future__ import annotations

import sys

import click

from dugs_stream.cli.options import Reasons, Settings, Since, command, configured, print_json, yes


@command("dugs explain dugs.samples/2/1041 -c config/kafka.yaml\ndugs explain 2/1041 --json")
@configured
@click.argument("record", metavar="ID")
@click.option(
    "--json", "as_json", is_flag=True,
    help="Print the event and the event of its nearest unique as one JSON document.",
)  # fmt: skip
def explain(settings: Settings, *, record: str, as_json: bool) -> None:
    """Show one decision and its nearest unique. ID is topic/partition/offset, as events name a record."""
    from dugs_stream.cli.console import counting, show_explanation
    from dugs_stream.commands.explain import Absence, RecordId, explain

    named = RecordId.parse(record, settings.input.topic)
    if named is None:
        raise click.UsageError(
            f"{record!r} is not an id: write topic/partition/offset, as in dugs.samples/2/1041."
        )
    with counting("searching") as progress:
        found = explain(settings, named, on_progress=progress)
    if isinstance(found, Absence):
        click.echo(f"dugs: no event of {named} on {', '.join(found.searched)}. {found.why}", err=True)
        sys.exit(1)
    if as_json:
        print_json({"event": found.event, "found_at": found.found_at, "nearest": found.nearest})
    else:
        show_explanation(found)


@command("dugs retry -c config/kafka.yaml --dry-run\ndugs retry --reason label_unknown --since 2h --yes")
@configured
@click.option(
    "--reason", "reasons", multiple=True, type=Reasons(),
    help="Only records rejected for this reason; may be repeated. `unreadable` ones go back only if it is named.",
)  # fmt: skip
@click.option(
    "--limit", type=click.IntRange(min=1), help="Put back at most this many; the next retry takes the rest."
)
@click.option(
    "--since", type=Since(),
    help="Only records rejected since then: 90m, 2h or 7d ago, or a time such as 2026-11-24T10:15Z.",
)  # fmt: skip
@click.option(
    "--from-offset", type=click.IntRange(min=0),
    help="Start at this offset of the dead-letter topic, even with records that were retried before.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only say what would be put back.")
@yes
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
    """Put dead letters back on the input topic unchanged, each once. Fix what caused them first."""
    from dugs_stream.cli.console import counting, lines_on_letters
    from dugs_stream.commands.retry import Selection, look, retry

    selection = Selection(frozenset(reasons), limit, since, from_offset)
    with counting("searching") as progress:
        seen = look(settings, selection, on_progress=progress)
    for line in lines_on_letters(seen, settings.output.dead_letter_topic):
        click.echo(line, err=True)
    if dry_run or not seen.total:
        return
    if not yes:
        click.confirm(f"Put {seen.total} records back on {settings.input.topic}?", abort=True, err=True)
    with counting("putting back") as progress:
        done = retry(settings, selection, seen, on_progress=progress)
    click.echo(f"put {done.total} records back on {settings.input.topic}", err=True)
