"""What kinds of value do the command's options take, beyond those that click brings?

Imports nothing heavy: `dugs --help` and the shell's completion go through here.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

REASONS = (
    "empty",
    "too_large",
    "undecodable",
    "wrong_shape",
    "label_missing",
    "label_unknown",
    "label_out_of_range",
    "not_finite",
    "model_error",
)
"""`records.Reason` without NumPy, which that module brings along; a test holds the two equal."""

_AGO = re.compile(r"([0-9]{1,6})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


if TYPE_CHECKING:
    _Whole = click.ParamType[int]
else:
    _Whole = click.ParamType  # which older releases of click cannot be asked the kind of


class Since(_Whole):
    """A time: so long ago (90m, 2h, 7d), or ISO 8601, in UTC where it names no zone. As milliseconds since 1970."""

    name = "moment"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        ago = _AGO.fullmatch(str(value))
        if ago is not None:
            return int((time.time() - int(ago[1]) * _SECONDS[ago[2]]) * 1000)
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is no time; write 90m, 2h, 7d or 2026-11-24T10:15Z.", param, ctx)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
