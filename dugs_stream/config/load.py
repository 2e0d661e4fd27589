"""Loading of the settings: defaults, a file, the environment and --set become settings, or a list of every problem.

`load_settings` is the only reader of the environment. The settings it returns are frozen data: they open, create
and import nothing; `app` turns them into objects. Each later source wins over the earlier ones.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dugs_stream.config import checks
from dugs_stream.config.checks import conflicts
from dugs_stream.config.fields import KeyPath, blocks_at, is_secret
from dugs_stream.config.problems import problem_of, tree_path
from dugs_stream.config.secret_files import exposed_files
from dugs_stream.config.settings import Settings
from dugs_stream.config.sources import Gathered, gather
from dugs_stream.errors import ConfigurationError, Problem


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and `written`: the tree of the file and --set that they are made of, without the environment."""

    settings: Settings
    written: Mapping[str, Any]


def load_settings(
    path: Path | str | None = None, overrides: Sequence[str] = (), environ: Mapping[str, str] | None = None
) -> Settings:
    """The settings alone; see `load`."""
    return load(path, overrides, environ).settings


def load(
    path: Path | str | None = None, overrides: Sequence[str] = (), environ: Mapping[str, str] | None = None
) -> Loaded:
    """The settings of defaults < file < environment < overrides ("section.key=value").

    `environ` None is this process's environment. Raises ConfigurationError with every problem at once, in the
    order: what could not be read, values that do not fit their key, settings that contradict each other.
    """
    gathered = gather(
        Settings, None if path is None else Path(path), overrides, os.environ if environ is None else environ
    )
    problems = [*gathered.problems, *_refused_secrets(gathered)]
    settings, faults, dropped = _validate(gathered)
    problems += faults + _conflicts(settings, gathered, dropped)
    if problems or settings is None:
        raise ConfigurationError(list(dict.fromkeys(problems)))
    return Loaded(settings, gathered.written)


def _refused_secrets(gathered: Gathered) -> Iterator[Problem]:
    """Secrets that others can read: in the file, or on the command line."""
    message = (
        "a secret must not be in the configuration file or on the command line, where others can read it."
    )
    for path, place in gathered.places.items():
        is_seen = is_secret(Settings, path) and not place.startswith("environment")
        if is_seen and _value_at(gathered.tree, path) is not None:
            variable, file_key = "DUGS_" + "__".join(map(str, path)).upper(), f"{path[-1]}_file"
            is_there = any(file_key in block.model_fields for block in blocks_at(Settings, path[:-1]))
            other = f", or name a file that holds it under {file_key}" if is_there else ""
            yield Problem(gathered.place(path), message, f"Set it in the environment as {variable}{other}.")


def _validate(gathered: Gathered) -> tuple[Settings | None, list[Problem], list[KeyPath]]:
    """The settings and what is wrong; a wrong value is replaced by its default, so that the rest is checked too."""
    problems: list[Problem] = []
    dropped: list[KeyPath] = []
    while True:
        try:
            return Settings.model_validate(gathered.tree), problems, dropped
        except ValidationError as exc:
            errors = exc.errors(include_url=False)
        # A block that misses the very value that was dropped from it is not a second problem.
        problems += [
            problem_of(error, gathered)
            for error in errors
            if not any(path[: len(tree_path(error))] == tree_path(error) for path in dropped)
        ]
        # Each round takes something out of a finite tree, so the rounds end.
        gone = [(error["type"], path) for error in errors if (path := _drop(gathered.tree, tree_path(error)))]
        if not gone:
            return None, problems, dropped
        dropped += [
            path for kind, path in gone if kind != "extra_forbidden"
        ]  # no check depends on an unknown key


def _drop(tree: dict[str, Any], path: KeyPath) -> KeyPath:
    """Remove the value at `path`, or the nearest one above it that exists; returns its path, () if there is none."""
    for length in range(len(path), 0, -1):
        block = _value_at(tree, path[: length - 1])
        if isinstance(block, dict) and path[length - 1] in block:
            del block[str(path[length - 1])]
            return path[:length]
    return ()


def _value_at(tree: Any, path: KeyPath) -> Any:
    """The value at `path`; None if there is none."""
    for part in path:
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def _conflicts(settings: Settings | None, gathered: Gathered, dropped: Sequence[KeyPath]) -> list[Problem]:
    """Conflicts between valid settings; a default that replaced a wrong value counts for nothing."""
    if settings is None:
        return []
    return [
        Problem(_first_written(conflict.paths, gathered), conflict.message, conflict.hint)
        for conflict in conflicts(settings)
        if not any(
            path[: len(gone)] == gone or gone[: len(path)] == path
            for path in conflict.paths
            for gone in dropped
        )
    ]


def _first_written(paths: Sequence[KeyPath], gathered: Gathered) -> str:
    """The place of the first path; if only another one was written, that place is named beside it."""
    if paths[0] in gathered.places:
        return gathered.place(paths[0])
    written = next((gathered.place(path) for path in paths if path in gathered.places), None)
    here = gathered.place(paths[0])
    return here if written is None else f"{written} with {here}"


def warnings(settings: Settings) -> list[str]:
    """Settings that are allowed and may surprise or expose data, a sentence or two each. Reads the modes of secret files."""
    return [*checks.warnings(settings), *exposed_files(settings)]


def config_schema() -> dict[str, Any]:
    """The configuration as JSON Schema 2020-12, every key with its description and default."""
    schema = Settings.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "dugs-stream configuration",
    }


def effective(settings: Settings) -> dict[str, Any]:
    """All settings in force as plain JSON values, defaults included, secrets masked: for the log."""
    return settings.model_dump(mode="json")


def differing(settings: Settings) -> dict[str, dict[str, Any]]:
    """What is set otherwise than by default, by section: full key as `--set` takes it → plain JSON value, secrets masked."""
    defaults = effective(Settings())
    found = {
        section: dict(_differences(value, defaults[section], section))
        for section, value in effective(settings).items()
    }
    return {section: keys for section, keys in found.items() if keys}


def _differences(value: Any, default: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        known = default if isinstance(default, Mapping) else {}
        for name, inner in value.items():
            yield from _differences(inner, known.get(name), f"{key}.{name}")
    elif value != default:
        yield key, value
