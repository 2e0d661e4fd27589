"""Files that commands leave: an error of the operating system names the file that it is about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import BaseModel
from shutil import copymode


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
    """Write a file in UTF-8, whole or not at all: an earlier one stays if the disk is full. Its folder is made if missing.

    One that takes the place of another has its permissions.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path):
        # A pipe or device cannot be replaced. The path is asked as it is: /dev/stdout resolves to a name that is not there.
        if path.exists() and not path.is_file():
            path.write_text(text, encoding="utf-8")
            return
        place = path.resolve()  # what a link leads to is written, and the link stays
        draft = place.with_name(f".{place.name}.draft")
        try:
            draft.touch()
            if place.exists():
                copymode(place, draft)
            draft.write_text(text, encoding="utf-8")
            draft.replace(place)
        finally:
            draft.unlink(missing_ok=True)


def write_report(path: Path, report: BaseModel) -> None:
    """Write a study's report as JSON, as `write_whole` writes."""
    write_whole(path, report.model_dump_json(indent=2) + "\n")
