"""Records from the files of a folder, for `dugs send` and `dugs scan`.

`list_files` looks at names only; contents are read one file at a time while the records are iterated, so that a folder
larger than memory can be sent or scanned. A folder that a file lies in is its class: its name becomes a header. The
order is that of the relative paths, part by part, by code point: the same on every machine, in every locale and on every
file system. Nothing is decoded here.

A file of rows (JSON Lines, Parquet, a tar shard) is as many records as it has rows; see `inputs.rows`.

What cannot be read is one failure each (`Problem`), and the rest goes on; what is not for the codec is counted.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from dugs_stream.errors import ConfigurationError, Problem
from dugs_stream.inputs.file_keys import names_of
from dugs_stream.inputs.rows.fields import Row, RowFields, RowPlan, ValueForm
from dugs_stream.inputs.rows.formats import (
    READERS,
    Reader,
    count_of,
    ending_of,
    reader_of,
    require_readers,
    suits,
)
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
    "text": frozenset({".txt"}),
}  # fmt: skip
"""Per built-in codec, the endings (lower case) of the files it takes; a codec not named here takes every file."""

_FORMS: Mapping[str, ValueForm] = {
    "image": ValueForm.BYTES,
    "npy": ValueForm.BYTES,
    "text": ValueForm.TEXT,
}
"""What a built-in codec's values are; of the others, a whole row of a table is one as JSON."""

NOT_A_FILE = "not a file"
"""The ending under which pipes, sockets and links to nothing are counted."""

_MOST_BYTES = 16 * 2**20
"""The default of `input.max_record_bytes`."""

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

    def read(self) -> bytes | Problem:
        """The whole content, or why the file cannot be read."""
        try:
            return self.path.read_bytes()
        except OSError as exc:
            return _unreadable(self.path, exc)
        except MemoryError:
            return Problem(f"'{self.path}'", "larger than the memory that is free.", "Leave it out.")


@dataclass(frozen=True, slots=True)
class Listing:
    """The files found, in order, and what was not taken.

    passed_over  how many files of each ending are not for the codec; "" counts those without an ending, and NOT_A_FILE
                 what is not a file (a pipe, a link to nothing)
    failures     files and folders below the given ones that cannot be looked into
    plan         how the rows of files that hold many are read

    Hidden files and folders (a leading dot) are neither listed nor counted.
    """

    files: tuple[FoundFile, ...]
    plan: RowPlan
    passed_over: Mapping[str, int] = field(default_factory=Counter)
    failures: tuple[Problem, ...] = ()
    label_header: str = LABEL_HEADER

    def __len__(self) -> int:
        """How many files there are."""
        return len(self.files)

    def count(self) -> int | None:
        """How many records there will be, if every file can be read; None if only reading them tells. Looks into files."""
        counts = [count_of(file.path) for file in self.files]
        return None if None in counts else sum(count or 0 for count in counts)

    @property
    def left_out(self) -> int:
        """How many files were passed over."""
        return sum(self.passed_over.values())

    @property
    def whole_files(self) -> tuple[FoundFile, ...]:
        """Those that are one sample each, whose class is a folder; rows have theirs in a field."""
        return tuple(file for file in self.files if reader_of(file.path) is None)

    def samples(self, on_failure: OnFailure | None = None) -> Iterator[Record]:
        """One record for each file and row, read when it is asked for; offsets are their numbers from 0.

        What cannot be read is handed to `on_failure` and has no record; without it, ConfigurationError.
        """
        for offset, found in enumerate(self._found()):
            if isinstance(found, Problem):
                if on_failure is None:
                    raise ConfigurationError([found])
                on_failure(found)
            else:
                yield replace(found, offset=offset)

    def _found(self) -> Iterator[Record | Problem]:
        for file in self.files:
            reader = reader_of(file.path)
            if reader is None:
                yield self._whole(file)
            else:
                yield from self._rows(file, reader)

    def _whole(self, file: FoundFile) -> Record | Problem:
        value = file.read()
        return value if isinstance(value, Problem) else self._record(file.key, value, _folder(file.label))

    def _rows(self, file: FoundFile, reader: Reader) -> Iterator[Record | Problem]:
        for row in reader(file.path, self.plan):
            yield self._of_row(file, row) if isinstance(row, Row) else row

    def _of_row(self, file: FoundFile, row: Row) -> Record:
        key = file.key + row.place.encode("utf-8", "surrogateescape") if row.key is None else row.key
        return self._record(key, row.value, row.label)

    def _record(self, key: bytes, value: bytes | None, label: bytes | None) -> Record:
        headers: Headers = () if label is None else ((self.label_header, label),)
        return Record(key, value, headers, topic=TOPIC, partition=0, offset=0)


def _folder(label: str | None) -> bytes | None:
    return None if label is None else label.encode("utf-8", "surrogateescape")


def list_files(
    paths: Sequence[Path],
    codec: str,
    *,
    class_folder: int = -1,
    label_header: str = LABEL_HEADER,
    fields: RowFields | None = None,
    max_bytes: int = _MOST_BYTES,
    expects_rows: bool = True,
) -> Listing:
    """Every file under `paths` that `codec` takes: path by path as given, sorted within each.

    `codec` is the built-in codec's name, or an import string. `class_folder` says which folder below the given one is
    the class: -1 the file's own, 1 the first. `fields` says what is read of a row; None: its label is the field called
    `label_header`. Symbolic links are followed, each real folder once per given path, so that loops end. Raises
    ConfigurationError with every given path that is missing, unreadable, or a folder without a single such file, and for
    fields that are named where no file has rows, unless `expects_rows` is False.
    """
    plan = RowPlan(
        fields or RowFields(label_header=label_header),
        codec,
        _FORMS.get(codec, ValueForm.JSON),
        SUFFIXES.get(codec),
        max_bytes,
    )
    searches, problems = _searches(paths, plan, class_folder)
    passed_over = sum((search.passed_over for search in searches), Counter[str]())
    failures = [failure for search in searches for failure in search.failures]
    if not any(search.files for search in searches) and not problems:
        problems = failures or [_nothing_in(", ".join(map(str, paths)), plan, passed_over)]
    # A folder that is given together with one inside it has that one's files too: each key once, and the first counts.
    files: dict[bytes, FoundFile] = {}
    for search in searches:
        for file in search.files:
            files.setdefault(file.key, file)
    names_fields = expects_rows and plan.fields.are_named
    if names_fields and not problems and not any(reader_of(file.path) for file in files.values()):
        problems.append(_no_rows(paths))
    if problems:
        raise ConfigurationError(problems)
    require_readers(file.path for file in files.values())
    return Listing(tuple(files.values()), plan, passed_over, tuple(failures), label_header)


def _searches(paths: Sequence[Path], plan: RowPlan, class_folder: int) -> tuple[list[_Search], list[Problem]]:
    """The searches that ran, and what is wrong with given paths."""
    problems: list[Problem] = []
    searches: list[_Search] = []
    for path, name in names_of(paths).items():
        search = _Search(path, name, plan, class_folder)
        try:
            search.run()
        except OSError as exc:
            problems.append(_unreadable(Path(exc.filename or path), exc))
            continue
        searches.append(search)
        if path.is_dir() and not search.files and not search.failures:
            problems.append(_nothing_in(str(path), plan, search.passed_over))
    return searches, problems


class _Search:
    """The search of one given path; `files` are in order once it has run."""

    def __init__(self, path: Path, name: str | None, plan: RowPlan, class_folder: int) -> None:
        self.files: list[FoundFile] = []
        self.passed_over: Counter[str] = Counter()
        self.failures: list[Problem] = []
        self._path = path
        self._name = name
        self._plan = plan
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
        elif not self._is_taken(file, is_named=root is None):
            self.passed_over[ending_of(file)] += 1
        else:
            self.files.append(self._found(file, root))

    def _is_taken(self, file: Path, *, is_named: bool) -> bool:
        if reader_of(file) is not None:
            return is_named or suits(
                file, self._plan
            )  # of one that is named, its reader says what is missing
        return self._plan.suffixes is None or file.suffix.lower() in self._plan.suffixes

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


def _nothing_in(place: str, plan: RowPlan, passed_over: Mapping[str, int]) -> Problem:
    wanted = (
        "any visible file"
        if plan.suffixes is None
        else f"files ending in {', '.join(sorted(plan.suffixes))}, or files of rows ({', '.join(READERS)})"
    )
    count = sum(passed_over.values())
    found = f", found {counted(passed_over)}" if count else ""
    return Problem(
        f"'{place}'",
        f"no file for the codec '{plan.codec}' ({count} left out); expected {wanted}{found}.",
        "Name another folder, or set input.codec to what the files hold.",
    )


def _no_rows(paths: Sequence[Path]) -> Problem:
    return Problem(
        f"'{', '.join(map(str, paths))}'",
        f"--column, --label and --key name fields of rows, but no file here has rows ({', '.join(READERS)}).",
        "Leave them out; the class of a single file is its folder (input.class_folder).",
    )


def counted(passed_over: Mapping[str, int]) -> str:
    """`3 .avif, 1 .txt, 1 without an ending`: the most frequent first."""
    kinds = sorted(passed_over.items(), key=lambda kind: (-kind[1], kind[0]))
    return ", ".join(f"{count} {_kind(ending, count)}" for ending, count in kinds)


def _kind(ending: str, count: int) -> str:
    if ending == NOT_A_FILE:
        return "pipe, socket or broken link" if count == 1 else "pipes, sockets or broken links"
    return ending or "without an ending"
