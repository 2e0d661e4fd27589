"""Records from the files of a folder, for `dugs send` and `dugs scan`.

`list_files` looks at names only; contents are read one file at a time while the records are iterated, so that a folder
larger than memory can be sent or scanned. A file's own folder is its class: its name becomes the header `label`. The
order is that of the relative paths, part by part, by code point: the same on every machine, in every locale and on every
file system. Nothing is decoded here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dugs_stream.errors import ConfigurationError, Problem
from dugs_stream.records import Headers, Record

TOPIC = "files"
"""The topic of records that are read from files; their ids are files/0/NUMBER."""

LABEL_HEADER = "label"
"""The header that carries the folder's name; the default `input.label` reads it."""

SUFFIXES: Mapping[str, frozenset[str]] = {
    "image": frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}),
    "npy": frozenset({".npy"}),
    "json": frozenset({".json"}),
}
"""Per built-in codec, the endings (lower case) of the files it takes; a codec not named here takes every file."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file, the key of its record, and its class.

    key    path relative to the given root, with forward slashes, as the bytes the file system holds
    label  name of the file's own folder; None for a file in the root itself
    """

    path: Path
    key: bytes
    label: str | None

    def read(self) -> bytes:
        """The whole content. Raises ConfigurationError if the file cannot be read."""
        try:
            return self.path.read_bytes()
        except OSError as exc:
            raise ConfigurationError([_unreadable(self.path, exc)]) from exc


@dataclass(frozen=True, slots=True)
class Listing:
    """The files found, in order; `left_out` counts those passed over (other endings, nothing to read).

    Hidden files and folders (a leading dot) are neither listed nor counted. `len` serves a progress bar.
    """

    files: tuple[FoundFile, ...]
    left_out: int

    def __len__(self) -> int:
        """How many records there will be."""
        return len(self.files)

    def samples(self) -> Iterator[Record]:
        """One record for each file, read when it is asked for; offsets count from 0."""
        for offset, file in enumerate(self.files):
            yield Record(file.key, file.read(), _headers(file.label), topic=TOPIC, partition=0, offset=offset)


def list_files(paths: Sequence[Path], codec: str) -> Listing:
    """Every file under `paths` that `codec` takes: path by path as given, sorted within each.

    `codec` is the built-in codec's name, or an import string. Symbolic links are followed, each real folder
    once per given path, so that loops end. Raises ConfigurationError with every path that is missing,
    unreadable, or a folder without a single such file.
    """
    suffixes = SUFFIXES.get(codec)
    files: list[FoundFile] = []
    problems: list[Problem] = []
    left_out = 0
    for path in paths:
        try:
            found = _list_one(path, suffixes)
        except OSError as exc:
            problems.append(_unreadable(Path(exc.filename or path), exc))
            continue
        files += found.files
        left_out += found.left_out
        if path.is_dir() and not found.files:
            problems.append(_nothing_in(str(path), codec, suffixes, found.left_out))
    if not files and not problems:
        problems.append(_nothing_in(", ".join(map(str, paths)), codec, suffixes, left_out))
    if problems:
        raise ConfigurationError(problems)
    return Listing(tuple(files), left_out)


def _list_one(path: Path, suffixes: frozenset[str] | None) -> Listing:
    path.stat()  # a path that is not there raises here, with its name
    is_folder = path.is_dir()
    root = path if is_folder else path.parent
    found: list[FoundFile] = []
    left_out = 0
    for file in _walk(path) if is_folder else iter((path,)):
        # is_file is False for dangling links and for pipes, whose reading would never end
        if file.is_file() and (suffixes is None or file.suffix.lower() in suffixes):
            found.append(_found(file, root))
        else:
            left_out += 1
    return Listing(tuple(sorted(found, key=lambda file: file.path.relative_to(root).parts)), left_out)


def _walk(root: Path) -> Iterator[Path]:
    """Every visible entry below root that is not a folder; a real folder is entered once."""
    seen: set[tuple[int, int]] = set()
    for folder, subfolders, names in os.walk(root, followlinks=True, onerror=_raise):
        stat = Path(folder).stat()
        if (stat.st_dev, stat.st_ino) in seen:
            subfolders.clear()
            continue
        seen.add((stat.st_dev, stat.st_ino))
        # sorted, so that of two links to one folder the same one counts everywhere
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        yield from (Path(folder, name) for name in names if not name.startswith("."))


def _raise(error: OSError) -> None:
    raise error


def _found(file: Path, root: Path) -> FoundFile:
    relative = file.relative_to(root)
    label = relative.parts[-2] if len(relative.parts) > 1 else None
    # surrogateescape gives back the very bytes of a name that is not UTF-8
    return FoundFile(file, relative.as_posix().encode("utf-8", "surrogateescape"), label)


def _headers(label: str | None) -> Headers:
    return () if label is None else ((LABEL_HEADER, label.encode("utf-8", "surrogateescape")),)


def _unreadable(path: Path, exc: OSError) -> Problem:
    reason = (exc.strerror or str(exc)).lower()
    return Problem(f"'{path}'", f"{reason}.", "Name files or folders that exist and that you may read.")


def _nothing_in(place: str, codec: str, suffixes: frozenset[str] | None, left_out: int) -> Problem:
    wanted = "any visible file" if suffixes is None else f"files ending in {', '.join(sorted(suffixes))}"
    return Problem(
        f"'{place}'",
        f"no file for the codec '{codec}' ({left_out} left out); expected {wanted}.",
        "Name another folder, or set input.codec to what the files hold.",
    )
