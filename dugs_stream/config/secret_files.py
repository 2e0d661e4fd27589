"""Warnings about files with secrets that other users of this machine can read. Looks at modes, opens nothing."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from dugs_stream.config.fields import KeyPath, dotted

_SUFFIX = "_file"
# Named differently, and a secret all the same: its holder can act as this client.
_KEY_FILE = "ssl_keyfile"


def exposed_files(settings: BaseModel) -> Iterator[str]:
    """A sentence for each file with a secret that every user of this machine can read."""
    for path, file in secret_files(settings):
        try:
            mode = file.stat().st_mode
        except OSError:
            continue  # reading it will report that
        if mode & stat.S_IROTH:
            yield (
                f"{dotted(path)}: '{file}' can be read by every user of this machine (mode "
                f"{stat.S_IMODE(mode):04o}). Remove that permission: chmod o= '{file}'"
            )


def secret_files(settings: BaseModel, above: KeyPath = ()) -> Iterator[tuple[KeyPath, Path]]:
    """Every file that a setting names as the holder of a secret."""
    names = type(settings).model_fields
    for name in names:
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            yield from secret_files(value, (*above, name))
        is_secret = name == _KEY_FILE or (name.endswith(_SUFFIX) and name.removesuffix(_SUFFIX) in names)
        if is_secret and isinstance(value, Path):
            yield (*above, name), value
