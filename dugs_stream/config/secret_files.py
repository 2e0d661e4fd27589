"""Can others on this machine read a file that holds a secret, or the state? Looks at modes, and opens nothing."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from dugs_stream.config.fields import KeyPath, dotted

__all__ = ["exposed_files", "exposed_folder", "secret_files"]

_SUFFIX = "_file"
# Named otherwise, and as secret: whoever has the key is the client.
_KEY_FILE = "ssl_keyfile"


def exposed_files(settings: BaseModel) -> Iterator[str]:
    """A sentence for each file with a secret that any user of this machine may read."""
    for path, file in secret_files(settings):
        try:
            mode = file.stat().st_mode
        except OSError:
            continue  # whoever reads it will say so
        if mode & stat.S_IROTH:
            yield (
                f"{dotted(path)}: '{file}' can be read by every user of this machine (mode "
                f"{stat.S_IMODE(mode):04o}). Take that away: chmod o= '{file}'"
            )


def exposed_folder(key: str, folder: Path) -> Iterator[str]:
    """A sentence where any user of this machine may look into a folder; one made by the daemon is its user's alone."""
    try:
        mode = folder.stat().st_mode
    except OSError:
        return
    if mode & (stat.S_IROTH | stat.S_IXOTH):
        yield (
            f"{key}: '{folder}' can be entered by every user of this machine (mode {stat.S_IMODE(mode):04o}), and "
            f"holds what is known of the records. Take that away: chmod o= '{folder}'"
        )


def secret_files(settings: BaseModel, above: KeyPath = ()) -> Iterator[tuple[KeyPath, Path]]:
    """Every file that a setting names as the place of a secret."""
    names = type(settings).model_fields
    for name in names:
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            yield from secret_files(value, (*above, name))
        is_secret = name == _KEY_FILE or (name.endswith(_SUFFIX) and name.removesuffix(_SUFFIX) in names)
        if is_secret and isinstance(value, Path):
            yield (*above, name), value
