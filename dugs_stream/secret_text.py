"""What secret stands in a file? Its first line; nothing of it is ever in an error."""

from __future__ import annotations

from pathlib import Path

from dugs_stream.errors import ConfigurationError, Problem

__all__ = ["first_line"]


def first_line(file: Path, place: str) -> str:
    """The secret; `place` is the setting that names the file. Raises ConfigurationError where there is none."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        found = f"{str(file)!r} cannot be read: {error.strerror}."
        raise ConfigurationError([Problem(place, found, "Name a file that holds it.")]) from None
    except UnicodeDecodeError:
        # Its text would quote a byte of the secret, and a chained traceback all of it.
        found = f"{str(file)!r} is not UTF-8 text."
        raise ConfigurationError([Problem(place, found, "Put the secret on its first line.")]) from None
    if not lines or not lines[0]:
        found = f"{str(file)!r} is empty."
        raise ConfigurationError([Problem(place, found, "Put the secret on its first line.")])
    return lines[0]
