"""Own code: the source behind a codec, a loss and a factory of the user's, as a text that changes with it.

The fingerprint holds their names. What they compute is recorded beside it, since lists of earlier versions have no such
record and go on. For each setting, the text is one of

    version V         the function, class or module says `dugs_version = V`, and so answers for its changes itself
    source DIGEST     over the module and those that it imports, wherever code of one's own lies (no installed packages)
    package NAME V    a large installed package, such as a library of models
    files DIGEST      beside these, over files that the code reads and names in `dugs_files`, such as a tokenizer's

Blank lines, lines of comment, docstrings and what runs under `if __name__ == "__main__"` change no digest.
"""

from __future__ import annotations

import ast
import hashlib
import json
import site
import sys
import sysconfig
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.metadata import distribution, packages_distributions, version
from itertools import chain, filterfalse
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from dugs_stream.errors import ConfigurationError, Problem

_OURS = "dugs_stream"
# Of an installed package's own modules; beyond, it is a library, whose source changes with every release.
_MOST_MODULES = 64
_PACKAGED = {"site-packages", "dist-packages"}
_DIGITS = 16


def own_code(references: Mapping[str, str]) -> dict[str, str]:
    """The texts by setting, of references package.module:function by setting; the package's own have none.

    The modules must have been imported. Raises ConfigurationError for a file in `dugs_files` that is not there.
    """
    found: dict[str, str] = {}
    for setting, reference in references.items():
        name, _, attributes = reference.partition(":")
        if name.partition(".")[0] == _OURS:
            continue
        said = _named(sys.modules.get(name), attributes.split("."))
        own = said.get("dugs_version")
        text = f"version {own}" if own is not None else _source(name)
        if text is not None:
            found[setting] = text
        if said.get("dugs_files") is not None:
            found[f"{setting} (files)"] = f"files {_digest(_files(said['dugs_files'], setting))}"
    return found


def _named(module: Any, attributes: Iterable[str]) -> dict[str, Any]:
    """What the object, or else its owner or module, says of itself."""
    said: dict[str, Any] = {}
    each = module
    for attribute in (None, *attributes):
        each = each if attribute is None else getattr(each, attribute, None)
        own = getattr(each, "dugs_version", None)
        if isinstance(own, str | int):
            said["dugs_version"] = own
        files = getattr(each, "dugs_files", None)
        if isinstance(files, str | Path):
            files = [files]
        if isinstance(files, list | tuple):
            said["dugs_files"] = [Path(file) for file in files]
    return said


def _digest(parts: Iterable[tuple[str, bytes]]) -> str:
    sha = hashlib.sha256()
    for name, content in parts:
        sha.update(f"{name}\0{len(content)}\0".encode())
        sha.update(content)
    return sha.hexdigest()[:_DIGITS]


def _files(paths: Iterable[Path], setting: str) -> Iterator[tuple[str, bytes]]:
    for path in paths:
        if not path.exists():
            message = f"its code names {str(path)!r} in dugs_files (looked for as {str(path.resolve())!r}), which does not exist."
            raise ConfigurationError(
                [Problem(setting, message, "Relative paths start at the working directory.")]
            )
        below = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
        for file in below:
            yield file.relative_to(path).as_posix(), file.read_bytes()


# -- source ------------------------------------------------------------------------------------------------


def _source(name: str) -> str | None:
    """None for a module without a file."""
    file = _file_of(name)
    if file is None:
        return None
    top = name.partition(".")[0]
    files, waiting, sources = {name: file}, [name], {}
    while waiting:
        each = waiting.pop()
        content = _content(files[each])
        tree = _parsed(content) if files[each].suffix == ".py" else None
        sources[each] = content if tree is None else _without_remarks(content, tree)
        for imported in _imports(tree, each, is_package=files[each].stem == "__init__"):
            found = None if imported in files else _file_of(imported)
            if found is not None and _is_own(imported, found, top):
                files[imported] = found
                waiting.append(imported)
        if len(files) > _MOST_MODULES and _is_installed(top, file) and top in (known := _distributions()):
            return f"package {known[top][0]} {version(known[top][0])}"
    return f"source {_digest(sorted(sources.items()))}"


def _content(file: Path) -> bytes:
    """What the file holds, also as a member of a zip archive on Python's path."""
    if file.is_file():
        return file.read_bytes()
    archive = next((each for each in file.parents if each.is_file()), None)
    if archive is None:
        return b""  # gone since it was imported
    with ZipFile(archive) as members:
        return members.read(file.relative_to(archive).as_posix())


# Python 3.11 counts the depth of trees for the whole process: two threads that parse at once can raise SystemError.
_PARSING = threading.Lock()


def _parsed(content: bytes) -> ast.Module | None:
    try:
        with _PARSING:
            return ast.parse(content.decode("utf-8-sig"))
    except (SyntaxError, UnicodeDecodeError):
        return None  # an encoding or a template of its own: its bytes count


def _imports(tree: ast.Module | None, module: str, *, is_package: bool) -> Iterator[str]:
    """The absolute name of everything that is imported at any depth; some may be functions, not modules."""
    for node in (
        [] if tree is None else chain.from_iterable(map(ast.walk, filterfalse(_is_script, tree.body)))
    ):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".") if is_package else module.split(".")[:-1]
            start = parents[: len(parents) - node.level + 1] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _file_of(module: str) -> Path | None:
    """The file of a module, imported or not; nothing is run to find it."""
    known = sys.modules.get(module)
    spec = _looked_up(module) if known is None else getattr(known, "__spec__", None)
    return Path(spec.origin) if spec is not None and spec.has_location and spec.origin else None


def _looked_up(module: str) -> ModuleSpec | None:
    spec: ModuleSpec | None = None
    parts = module.split(".")
    for length in range(1, len(parts) + 1):
        within = None if spec is None else spec.submodule_search_locations
        if length > 1 and within is None:
            return None
        spec = _found(".".join(parts[:length]), within)
        if spec is None:
            return None
    return spec


def _found(name: str, within: Sequence[str] | None) -> ModuleSpec | None:
    """By every finder, as editable installs bring their own; one that fails finds nothing."""
    for finder in sys.meta_path:
        with suppress(Exception):
            spec = finder.find_spec(name, within)
            if spec is not None:
                return spec
    return None


def _is_own(module: str, file: Path, top: str) -> bool:
    """Of the same package as the function, or anywhere but among what is installed."""
    root = module.partition(".")[0]
    return root != _OURS and (root == top or not _is_installed(root, file))


def _is_installed(root: str, file: Path) -> bool:
    """By where its file lies, or by the records of a distribution, which may lie in any folder of Python's path."""
    path = file.resolve()
    is_packaged = not _PACKAGED.isdisjoint(path.parts)
    if is_packaged or any(path.is_relative_to(folder) for folder in _installed_folders()):
        return True
    return any(not _is_editable(name) for name in _distributions().get(root, ()))


@cache
def _distributions() -> Mapping[str, list[str]]:
    return packages_distributions()


@cache
def _is_editable(name: str) -> bool:
    """Whether the distribution's code is a checkout of its own, which somebody works on."""
    said = distribution(name).read_text("direct_url.json")
    return bool(said and json.loads(said).get("dir_info", {}).get("editable"))


@cache
def _installed_folders() -> tuple[Path, ...]:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    folders = {*map(sysconfig.get_path, names), *site.getsitepackages(), site.getusersitepackages()}
    return tuple(Path(folder).resolve() for folder in folders)


def _without_remarks(content: bytes, tree: ast.Module) -> bytes:
    """The lines that count: no blank ones, comments and docstrings; lines inside other strings stay as they are."""
    lines = (
        content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    )  # as Python counts them
    literal: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr) or (
            isinstance(node, ast.Constant) and isinstance(node.value, str)
        ):
            literal |= set(range(node.lineno + 1, (node.end_lineno or node.lineno) + 1))
    remarks = set(_docstring_lines(tree, lines))
    for node in filter(_is_script, tree.body):
        remarks |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    kept = [
        line if number in literal else line.rstrip()
        for number, line in enumerate(lines, start=1)
        if number not in remarks
        and (number in literal or (line.strip() and not line.lstrip().startswith("#")))
    ]
    return "\n".join(kept).encode()


def _is_script(node: ast.stmt) -> bool:
    """What never runs when the module is imported."""
    return isinstance(node, ast.If) and not node.orelse and ast.unparse(node.test) == "__name__ == '__main__'"


def _docstring_lines(tree: ast.Module, lines: list[str]) -> Iterator[int]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        first = node.body[0] if node.body else None
        if (
            isinstance(first, ast.Expr)
            and isinstance(first.value, ast.Constant)
            and isinstance(first.value.value, str)
        ):
            end = first.end_lineno or first.lineno
            before = lines[first.lineno - 1].encode()[: first.col_offset]
            behind = lines[end - 1].encode()[first.end_col_offset :]
            if not before.strip() and not behind.strip():  # nothing else on its lines
                yield from range(first.lineno, end + 1)
