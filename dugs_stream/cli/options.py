"""Options and arguments that commands share, and the form of their help.

Imports nothing heavy: `dugs --help` and the shell's completion go through here.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

# Commands get this name from here: importing the settings takes longer than `dugs --help` may.
if TYPE_CHECKING:
    from dugs_stream import config

    Settings = config.Settings
    _Choice = click.Choice[str]
    _Whole = click.ParamType[int]
else:  # older releases of click have no generic types
    Settings = object
    _Choice = click.Choice
    _Whole = click.ParamType

_AGO = re.compile(r"([0-9]{1,6})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Command(click.Command):
    """A command whose help ends with an example, kept line by line."""

    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.epilog:
            with formatter.section("Example"):
                for line in self.epilog.splitlines():
                    formatter.write_text(line)


def command(epilog: str) -> Callable[[Callable[..., Any]], Command]:
    """Make a function a command whose help ends with these lines as its example."""
    return click.command(cls=Command, epilog=epilog)


class Group(Command, click.Group):
    """A group of such commands."""

    command_class = Command
    group_class = type


class FiniteRange(click.FloatRange):
    """A number of a range. click's own takes nan, since no comparison with it fails."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


class Since(_Whole):
    """A time ago (90m, 2h, 7d) or in ISO 8601 (UTC unless it names a zone), as milliseconds since 1970."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        ago = _AGO.fullmatch(str(value))
        if ago is not None:
            return int((time.time() - int(ago[1]) * _SECONDS[ago[2]]) * 1000)
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is not a time; write 90m, 2h, 7d or 2026-11-24T10:15Z.", param, ctx)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


class Reasons(_Choice):
    """The reasons for a rejection, imported when they are asked for: `records` brings NumPy."""

    def __init__(self) -> None:
        self.case_sensitive = True

    @cached_property
    def choices(self) -> Sequence[str]:  # type: ignore[override]  # click sets it in the constructor left out here
        from dugs_stream.records import Reason

        return [reason.value for reason in Reason]


_config = click.option(
    "-c", "--config", "config", type=click.Path(path_type=Path),
    help="Configuration in YAML; a key that it omits has its default.",
)  # fmt: skip
_set = click.option(
    "--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE",
    help="Override one setting; may be repeated.",
)  # fmt: skip
paths = click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
yes = click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
seed = click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of all random choices."
)


def _a_file(_ctx: click.Context, _param: click.Parameter, path: Path | None) -> Path | None:
    if path == Path("-"):
        raise click.BadParameter("'-' is not a file here; name one, or /dev/stdout.")
    return path


report_file = click.option(
    "--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), callback=_a_file,
    help="Write the report to this file.",
)  # fmt: skip


_column = click.option(
    "--column", metavar="FIELD",
    help="Of JSON Lines, Parquet and tar shards: the field, column or ending that is the sample (image.bytes, jpg).",
)  # fmt: skip
_label = click.option(
    "--label", metavar="FIELD",
    help="Of the same: the field that is the label. Without it, the one called as the header of input.label, or cls.",
)  # fmt: skip
_key = click.option(
    "--key",
    metavar="FIELD",
    help="Of the same: the field that is the record's key. Without it, file and row.",
)


def row_fields(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command --column, --label and --key, and hand them over as `fields`."""

    def gather(*arguments: Any, column: str | None, label: str | None, key: str | None, **rest: Any) -> None:
        from dugs_stream.inputs.rows.fields import RowFields

        command(*arguments, fields=RowFields(column, label, key), **rest)

    gather.__name__, gather.__doc__ = command.__name__, command.__doc__
    gather.__click_params__ = getattr(command, "__click_params__", [])  # type: ignore[attr-defined]  # click's own way
    return _column(_label(_key(gather)))


WRITTEN = "dugs_stream.written"
"""In the context's `meta`: what the configuration's file and --set say."""


def configured(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command -c and --set, and hand it the loaded settings as its first argument."""

    def load(config: Path | None, overrides: Sequence[str], **rest: Any) -> None:
        from dugs_stream.config import load as load_configuration
        from dugs_stream.ops.logging.configure import configure_logs

        loaded = load_configuration(config, overrides)
        # For the command that writes a file of its own: the configuration may be a pipe, which is read once.
        click.get_current_context().meta[WRITTEN] = loaded.written
        configure_logs("warning", loaded.settings.logging.format)  # `dugs run` says more
        command(loaded.settings, **rest)

    load.__name__, load.__doc__ = command.__name__, command.__doc__
    load.__click_params__ = getattr(command, "__click_params__", [])  # type: ignore[attr-defined]  # click's own way
    return _config(_set(load))


_COMMANDING = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Controls of C1, ends of lines and turns of direction, which JSON leaves as they are and a terminal obeys."""


def print_json(document: Any) -> None:
    """One JSON document a line, readable by any tool behind a pipe, and harmless to a terminal."""
    text = json.dumps(document, ensure_ascii=False)
    click.echo(_COMMANDING.sub(lambda found: f"\\u{ord(found[0]):04x}", text))
