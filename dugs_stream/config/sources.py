"""Sources of the settings: a YAML file, the environment and --set, merged into one tree with the place of each value.

Later sources win: file, then environment (DUGS_SECTION__KEY, one more __ a level), then --set section.key=value.
Values of the latter two are YAML, except that text for a key that takes only text stays as written. What cannot be
read becomes a problem with its place, and reading continues. Whether the keys exist and the values fit is checked
elsewhere. YAML is read by SafeLoader alone: no tag makes an object.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from dugs_stream.config.fields import KeyPath, dotted, is_block, is_secret, is_text
from dugs_stream.errors import Problem

_PREFIX = "DUGS_"
_LEVEL = "__"
_SET_FORM = "section.key=value"

_MOST_NODES = 50_000
"""Values a file may expand to; aliases of aliases could make billions out of a few lines."""


@dataclass(slots=True)
class Gathered:
    """The merged tree of all sources, the place of each value, and what could not be read.

    written  the tree of the file and --set alone: what another file may say again, since the environment may hold secrets
    """

    root: type[BaseModel]
    tree: dict[str, Any] = field(default_factory=dict)
    written: dict[str, Any] = field(default_factory=dict)
    places: dict[KeyPath, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def place(self, path: KeyPath) -> str:
        """Where the value at `path` was written: the place of the nearest key above it, and the key."""
        for length in range(len(path), 0, -1):
            written = self.places.get(path[:length])
            if written is not None:
                return (
                    written if written.startswith(("--set", "environment")) else f"{written} {dotted(path)}"
                )
        return dotted(path) or self.places.get((), "configuration")

    def refuse(self, place: str, message: str, hint: str) -> None:
        """Note something that could not be read."""
        self.problems.append(Problem(place, message, hint))

    def put(self, path: KeyPath, value: Any, place: str) -> None:
        """Set one value from outside the file; it replaces any value of that key."""
        block = self._open_block(path[:-1])
        if block is None:
            return  # the value above has a wrong type, and is reported for that
        block[str(path[-1])] = value
        for old in [other for other in self.places if other[: len(path)] == path]:
            del self.places[old]
        self.places[path] = place

    def _open_block(self, path: KeyPath) -> dict[str, Any] | None:
        block = self.tree
        for depth, part in enumerate(path, start=1):
            below = block.get(str(part))
            if below is None or (isinstance(below, str) and path[:depth] == ("input", "codec")):
                # The codec's short form is its type, and the default type is image.
                below = {"type": below or "image"} if path[:depth] == ("input", "codec") else {}
                block[str(part)] = below
            if not isinstance(below, dict):
                return None
            block = below
        return block


def gather(
    root: type[BaseModel], path: Path | None, overrides: Sequence[str], environ: Mapping[str, str]
) -> Gathered:
    """Read all sources in the order of precedence. Mistakes in them become problems, not exceptions."""
    gathered = Gathered(root)
    if path is not None:
        _read_file(gathered, path)
    _drop_empty_blocks(gathered, gathered.tree, ())
    without_environment = Gathered(root, deepcopy(gathered.tree))
    for name in sorted(environ):
        _read_variable(gathered, name, environ[name])
    for override in overrides:
        _read_override(gathered, override)
        _read_override(without_environment, override)
    gathered.written = without_environment.tree
    return gathered


# -- the file ----------------------------------------------------------------------------------------------


def _read_file(gathered: Gathered, path: Path) -> None:
    place = str(path)
    gathered.places[()] = place
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        hint = "Give another path to -c, or leave it out for the defaults."
        gathered.refuse(place, f"no such file (looked in {str(Path.cwd())!r}).", hint)
        return
    except UnicodeDecodeError as exc:
        gathered.refuse(place, f"not UTF-8 at byte {exc.start}.", "Save the file as UTF-8.")
        return
    except OSError as exc:
        hint = "Give a YAML file that can be read."
        gathered.refuse(place, f"cannot be read: {exc.strerror}.", hint)
        return
    _read_text(gathered, text, place)


def _read_text(gathered: Gathered, text: str, place: str) -> None:
    try:
        tree = _Reader(text, place, gathered).document()
    except yaml.YAMLError as exc:
        gathered.problems.append(_syntax_problem(exc, place))
        return
    except RecursionError:
        gathered.refuse(place, "nested too deeply.", "No setting is more than a few levels deep.")
        return
    if tree is None:
        return  # an empty file is the defaults
    if not isinstance(tree, dict):
        message = f"found {type(tree).__name__}, expected a mapping of sections."
        gathered.refuse(place, message, "Begin with a section, for instance input:")
        return
    gathered.tree = tree


def _syntax_problem(exc: yaml.YAMLError, place: str) -> Problem:
    mark = getattr(exc, "problem_mark", None) or getattr(exc, "context_mark", None)
    if mark is not None:
        place = f"{place}:{mark.line + 1}:{mark.column + 1}"
    what = getattr(exc, "problem", None) or getattr(exc, "reason", None) or "cannot be read"
    context = getattr(exc, "context", None)
    return Problem(
        place,
        f"not YAML: {f'{context}: ' if context else ''}{what}.",
        "Look at that line and the one above it.",
    )


class _Reader(yaml.SafeLoader):
    """SafeLoader with the line and column of every key; duplicate keys are reported."""

    def __init__(self, text: str, place: str, gathered: Gathered) -> None:
        super().__init__(text)
        self._place = place
        self._gathered = gathered
        self._open: set[int] = set()
        self._nodes = 0

    def document(self) -> Any:
        node = self.get_single_node()
        return None if node is None else self._value(node, ())

    def _value(self, node: yaml.Node, path: KeyPath) -> Any:
        self._nodes += 1
        if id(node) in self._open or self._nodes > _MOST_NODES:
            what = (
                "an alias that contains itself"
                if id(node) in self._open
                else f"more than {_MOST_NODES} values"
            )
            raise yaml.constructor.ConstructorError(problem=what, problem_mark=node.start_mark)
        self._gathered.places.setdefault(path, self._where(node))
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        self._open.add(id(node))
        value = self._mapping(node, path) if isinstance(node, yaml.MappingNode) else self._list(node, path)
        self._open.discard(id(node))
        return value

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        try:
            return self.construct_object(node)
        except ValueError as exc:  # a date such as 2026-13-45, a number of thousands of digits
            raise yaml.constructor.ConstructorError(problem=str(exc), problem_mark=node.start_mark) from exc

    def _list(self, node: yaml.Node, path: KeyPath) -> list[Any]:
        if not isinstance(node, yaml.SequenceNode) or node.tag != "tag:yaml.org,2002:seq":
            raise yaml.constructor.ConstructorError(
                problem=f"the tag {node.tag!r}", problem_mark=node.start_mark
            )
        return [self._value(item, (*path, place)) for place, item in enumerate(node.value)]

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        if node.tag != "tag:yaml.org,2002:map":
            raise yaml.constructor.ConstructorError(
                problem=f"the tag {node.tag!r}", problem_mark=node.start_mark
            )
        self._report_duplicates(node, path)
        self.flatten_mapping(node)  # resolves `<<`, merged keys first
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is None:
                self._report(
                    key_node, path, "found a list or mapping as a key, expected a name.", "Write key: value."
                )
                continue
            self._gathered.places[(*path, key)] = self._where(key_node)
            mapping[key] = self._value(value_node, (*path, key))
        return mapping

    def _report_duplicates(self, node: yaml.MappingNode, path: KeyPath) -> None:
        first: dict[str, yaml.Node] = {}
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode):
                earlier = first.setdefault(key_node.value, key_node)
                if earlier is not key_node and key_node.value != "<<":
                    line = earlier.start_mark.line + 1
                    message = f'the key "{key_node.value}" appears twice (first in line {line}).'
                    self._report(key_node, (*path, key_node.value), message, "Keep one of the two.")

    def _report(self, node: yaml.Node, path: KeyPath, message: str, hint: str) -> None:
        self._gathered.refuse(f"{self._where(node)} {dotted(path)}".rstrip(), message, hint)

    def _where(self, node: yaml.Node) -> str:
        return f"{self._place}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"


def _drop_empty_blocks(gathered: Gathered, block: dict[str, Any], above: KeyPath) -> None:
    """Drop blocks whose keys are all commented out: YAML reads them as null, and they mean the defaults."""
    for name in list(block):
        path = (*above, name)
        if block[name] is None and is_block(gathered.root, path):
            del block[name]
        elif isinstance(block[name], dict):
            _drop_empty_blocks(gathered, block[name], path)


# -- the environment and --set -----------------------------------------------------------------------------


def _read_variable(gathered: Gathered, name: str, text: str) -> None:
    if not name.startswith(_PREFIX):
        return
    place = f"environment {name}"
    parts = name[len(_PREFIX) :].lower().split(_LEVEL)
    if len(parts) == 1:
        _refuse_single_underscores(gathered, name, parts[0])
    elif not all(parts):
        message = "found an empty level, expected DUGS_SECTION__KEY."
        gathered.refuse(place, message, "Put two underscores between levels, none at the end.")
    else:
        _put_text(gathered, tuple(parts), text, place)


def _refuse_single_underscores(gathered: Gathered, name: str, rest: str) -> None:
    """Refuse DUGS_HTTP_PORT, which would silently change nothing; names of other programs are ignored."""
    section = next(
        (each for each in gathered.root.model_fields if rest == each or rest.startswith(f"{each}_")), None
    )
    if section is None:
        return
    key = rest[len(section) + 1 :] or "key"
    hint = f"Write {_PREFIX}{section.upper()}{_LEVEL}{key.upper()}."
    message = "has no effect: section and key must be separated by two underscores."
    gathered.refuse(f"environment {name}", message, hint)


def _read_override(gathered: Gathered, override: str) -> None:
    name, equals, text = override.partition("=")
    path = tuple(name.strip().split("."))
    if not equals or len(path) < 2 or not all(path):  # noqa: PLR2004 (a section and a key)
        # Only the part before "=" is shown: the rest may be a secret.
        message = f"found {(name + equals)!r}, expected {_SET_FORM}."
        gathered.refuse("--set", message, "For instance --set selection.threshold=0.5.")
        return
    _put_text(gathered, path, text, f"--set {dotted(path)}")


def _put_text(gathered: Gathered, path: KeyPath, text: str, place: str) -> None:
    if is_secret(gathered.root, path):
        gathered.put(path, text, place)
    elif is_text(gathered.root, path) and not text.lstrip().startswith(("'", '"')):
        gathered.put(path, None if text.strip() in {"", "~", "null"} else text, place)
    else:
        _put_yaml(gathered, path, text, place)


def _put_yaml(gathered: Gathered, path: KeyPath, text: str, place: str) -> None:
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as exc:
        what = getattr(exc, "problem", None) or "it cannot be read"
        message = f"found {text[:60]!r}, expected a value in YAML: {what}."
        gathered.refuse(place, message, "Put quotes around text with special characters.")
        return
    gathered.put(path, value, place)
