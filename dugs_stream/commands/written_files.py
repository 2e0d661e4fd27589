"""Files that commands leave: an error of the operating system names the file that it is about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give an OSError the file's name where the system leaves it out, as of a disk that is full."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


def write_whole(path: Path, text: str) -> None:
    """Write a file in UTF-8, whole or not at all: an earlier one stays if the disk is full. Its folder is made if missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    place = path.resolve()  # what a link leads to is written, and the link stays
    with naming(path):
        if place.exists() and not place.is_file():  # a pipe or device cannot be replaced
            place.write_text(text, encoding="utf-8")
            return
        draft = place.with_name(f".{place.name}.draft")
        try:
            draft.write_text(text, encoding="utf-8")
            draft.replace(place)
        finally:
            draft.unlink(missing_ok=True)
