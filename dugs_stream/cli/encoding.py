"""Characters that a terminal or pipe cannot take: written as escapes of JSON instead of ending the command."""

from __future__ import annotations

import codecs
import io
import json
import sys
from contextlib import suppress

_HANDLER = "dugs_stream.escaped"


def escape_what_cannot_be_encoded() -> None:
    """For stdout and stderr of this process: those of another encoding than UTF-8 lack τ, – and most of a record's text.

    The escape is JSON's, so that a line of JSON stays one.
    """
    codecs.register_error(_HANDLER, _escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not what a test or another program put in its place
            with suppress(OSError):  # its file was exchanged for a pipe, and it still looks for a place in it
                stream.reconfigure(errors=_HANDLER)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end
