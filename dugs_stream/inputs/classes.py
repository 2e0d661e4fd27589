"""Names of the classes: the list of the configuration, or a file with one name a line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dugs_stream.errors import ConfigurationError, Problem


def read_classes(classes: Sequence[str] | str | None) -> tuple[str, ...] | None:
    """The names in their order: a list as it is, a text as the path of a UTF-8 file; None stays None.

    Blank lines and spaces around names are skipped. Raises ConfigurationError for a file that cannot
    be read, is empty or names a class twice.
    """
    if classes is None or not isinstance(classes, str):
        return None if classes is None else tuple(classes)
    path = Path(classes)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else f"not UTF-8 ({exc.reason} at byte {exc.start})"
        raise _refused(f"the file {str(path)!r} cannot be read: {reason}.") from exc
    names = tuple(line.strip() for line in lines if line.strip())
    if not names:
        raise _refused(f"the file {str(path)!r} names no class.")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise _refused(f"the file {str(path)!r} names the class {twice!r} twice.")
    return names


def _refused(message: str) -> ConfigurationError:
    hint = "Give a UTF-8 file with one class name a line, in the order of the model's outputs."
    return ConfigurationError([Problem("input.classes", message, hint)])
