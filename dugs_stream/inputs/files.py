"""Records from the files of a folder, for `dugs send` and `dugs scan`.

`list_files` looks at names only; contents are read one file at a time while the records are iterated, so that a folder
larger than memory can be sent or scanned. A folder that a file lies in is its class: its name becomes a header. The
order is that of the relative paths, part by part, by code point: the same on every machine, in every locale and on every
file system. Nothing is decoded here.

What cannot be read is one failure each (`Problem`), and the rest goes on; what is not for the codec is counted.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dugs_stream.errors import ConfigurationError, Problem
from dugs_stream.inputs.file_keys import names_of
from dugs_stream.records import Headers, Record

TOPIC = "files"
"""The topic of records that are read from files; their ids are files/0/NUMBER."""

LABEL_HEADER = "label"
"""The header that carries the folder's name if `input.label` names none; the default `input.label` reads it."""

SUFFIXES: Mapping[str, frozenset[str]] = {
    "image": frozenset(
        {
            ".apng", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".mpo", ".pbm", ".pgm", ".png", ".pnm", ".ppm",
            ".tif", ".tiff", ".webp",
        }
    ),
    "npy": frozenset({".npy"}),
    "json": frozenset({".json"}),
}  # fmt: skip
"""Per built-in codec, the endings (lower case) of the files it takes; a codec not named here takes every file."""

NOT_A_FILE = "not a file"
"""The ending under which pipes, sockets and links to nothing are counted."""

OnFailure = Callable[[Problem], None]


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file, the key of its record, and its class.

    key    path below the given folder, with forward slashes, as the bytes the file system holds; if several paths
           were given, it begins with what tells this one from the others
    label  name of the folder that is its class; None if the file lies in no such folder
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
        except MemoryError as exc:
            problem = Problem(f"'{self.path}'", "larger than the memory that is free.", "Leave it out.")
            raise ConfigurationError([problem]) from exc


@dataclass(frozen=True, slots=True)
class Listing:
    """The files found, in order, and what was not taken.

    passed_over  how many files of each ending are not for the codec; "" counts those without an ending, and NOT_A_FILE
                 what is not a file (a pipe, a link to nothing)
    failures     files and folders below the given ones that cannot be looked into

    Hidden files and folders (a leading dot) are neither listed nor counted. `len` serves a progress bar.
    """

    files: tuple[FoundFile, ...]
    passed_over: Mapping[str, int] = field(default_factory=Counter)
    failures: tuple[Problem, ...] = ()
    label_header: str = LABEL_HEADER

    def __len__(self) -> int:
        """How many records there will be, if every file can be read."""
        return len(self.files)

    @property
    def left_out(self) -> int:
        """How many files were passed over."""
        return sum(self.passed_over.values())

    def samples(self, on_failure: OnFailure | None = None) -> Iterator[Record]:
        """One record for each file, read when it is asked for; offsets are the files' numbers from 0.

        A file that cannot be read is handed to `on_failure` and has no record; without it, ConfigurationError.
        """
        for offset, file in enumerate(self.files):
            try:
                value = file.read()
            except ConfigurationError as error:
                if on_failure is None:
                    raise
                for problem in error.problems:
                    on_failure(problem)
                continue
            yield Record(file.key, value, self._headers(file.label), topic=TOPIC, partition=0, offset=offset)

    def _headers(self, label: str | None) -> Headers:
        return () if label is None else ((self.label_header, label.encode("utf-8", "surrogateescape")),)


def list_files(
    paths: Sequence[Path], codec: str, *, class_folder: int = -1, label_header: str = LABEL_HEADER
) -> Listing:
    """Every file under `paths` that `codec` takes: path by path as given, sorted within each.

    `codec` is the built-in codec's name, or an import string. `class_folder` says which folder below the given one is
    the class: -1 the file's own, 1 the first. Symbolic links are followed, each real folder once per given path, so
    that loops end. Raises ConfigurationError with every given path that is missing, unreadable, or a folder without a
    single such file.
    """
    suffixes = SUFFIXES.get(codec)
    names = names_of(paths)
    problems: list[Problem] = []
    searches: list[_Search] = []
    for path, name in names.items():
        search = _Search(path, name, suffixes, class_folder)
        try:
            search.run()
        except OSError as exc:
            problems.append(_unreadable(Path(exc.filename or path), exc))
            continue
        searches.append(search)
        if path.is_dir() and not search.files and not search.failures:
            problems.append(_nothing_in(str(path), codec, suffixes, search.passed_over))
    passed_over = sum((search.passed_over for search in searches), Counter[str]())
    failures = [failure for search in searches for failure in search.failures]
    if not any(search.files for search in searches) and not problems:
        problems = failures or [_nothing_in(", ".join(map(str, paths)), codec, suffixes, passed_over)]
    if problems:
        raise ConfigurationError(problems)
    # A folder that is given together with one inside it has that one's files too: each key once, and the first counts.
    files: dict[bytes, FoundFile] = {}
    for search in searches:
        for file in search.files:
            files.setdefault(file.key, file)
    return Listing(tuple(files.values()), passed_over, tuple(failures), label_header)


class _Search:
    """The search of one given path; `files` are in order once it has run."""

    def __init__(
        self, path: Path, name: str | None, suffixes: frozenset[str] | None, class_folder: int
    ) -> None:
        self.files: list[FoundFile] = []
        self.passed_over: Counter[str] = Counter()
        self.failures: list[Problem] = []
        self._path = path
        self._name = name
        self._suffixes = suffixes
        self._class_folder = class_folder

    def run(self) -> None:
        """Raises OSError if the given path itself cannot be looked into."""
        self._path.stat()  # a path that is not there raises here, with its name
        is_folder = self._path.is_dir()
        root = self._path if is_folder else self._path.parent
        for file in self._walk() if is_folder else iter((self._path,)):
            try:
                self._take(file, root if is_folder else None)
            except OSError as exc:
                self.failures.append(_unreadable(file, exc))
        self.files.sort(key=lambda file: file.path.relative_to(root).parts)

    def _take(self, file: Path, root: Path | None) -> None:
        # is_file is False for dangling links and for pipes, whose reading would never end
        if not file.is_file():
            self.passed_over[NOT_A_FILE] += 1
        elif self._suffixes is not None and file.suffix.lower() not in self._suffixes:
            self.passed_over[file.suffix.lower()] += 1
        else:
            self.files.append(self._found(file, root))

    def _found(self, file: Path, root: Path | None) -> FoundFile:
        """A file named itself (root None) has its name as key and no class."""
        relative = Path(file.name) if root is None else file.relative_to(root)
        folders = relative.parts[:-1]
        place = self._class_folder if self._class_folder < 0 else self._class_folder - 1
        label = folders[place] if -len(folders) <= place < len(folders) else None
        key = (
            relative
            if self._name is None
            else Path(self._name if root is None else Path(self._name, relative))
        )
        # surrogateescape gives back the very bytes of a name that is not UTF-8
        return FoundFile(file, key.as_posix().encode("utf-8", "surrogateescape"), label)

    def _walk(self) -> Iterator[Path]:
        """Every visible entry below the path that is not a folder; a real folder is entered once."""
        seen: set[tuple[int, int]] = set()
        for folder, subfolders, names in os.walk(self._path, followlinks=True, onerror=self._not_listed):
            try:
                stat = Path(folder).stat()
            except OSError as error:  # it went away, or its server did
                self._not_listed(error)
                subfolders.clear()
                continue
            if (stat.st_dev, stat.st_ino) in seen:
                subfolders.clear()
                continue
            seen.add((stat.st_dev, stat.st_ino))
            # sorted, so that of two links to one folder the same one counts everywhere
            subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
            yield from (Path(folder, name) for name in names if not name.startswith("."))

    def _not_listed(self, error: OSError) -> None:
        if error.filename is None or Path(error.filename) == self._path:
            raise error
        self.failures.append(_unreadable(Path(error.filename), error))


def _unreadable(path: Path, exc: OSError) -> Problem:
    reason = (exc.strerror or str(exc)).lower()
    return Problem(f"'{path}'", f"{reason}.", "Name files or folders that exist and that you may read.")


def _nothing_in(
    place: str, codec: str, suffixes: frozenset[str] | None, passed_over: Mapping[str, int]
) -> Problem:
    wanted = "any visible file" if suffixes is None else f"files ending in {', '.join(sorted(suffixes))}"
    count = sum(passed_over.values())
    found = f", found {counted(passed_over)}" if count else ""
    return Problem(
        f"'{place}'",
        f"no file for the codec '{codec}' ({count} left out); expected {wanted}{found}.",
        "Name another folder, or set input.codec to what the files hold.",
    )


def counted(passed_over: Mapping[str, int]) -> str:
    """`3 .avif, 1 .txt, 1 without an ending`: the most frequent first."""
    kinds = sorted(passed_over.items(), key=lambda kind: (-kind[1], kind[0]))
    return ", ".join(f"{count} {ending or 'without an ending'}" for ending, count in kinds)
