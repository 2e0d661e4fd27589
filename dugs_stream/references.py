"""References in settings: an import string package.module:function to its object, a file to its secret.

Models, losses and codecs of the user are imported here. An ImportError raised inside the user's own module
passes untouched: it is about their code, and its traceback says more than a message of ours.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dugs_stream.errors import ConfigurationError, Problem
from dugs_stream.setting_types import check_import_string


def import_string(text: str, setting: str) -> Callable[..., Any]:
    """The callable that `text` names; `setting` is the key of the setting, for the message.

    Runs the module's code. Raises ConfigurationError for a wrong form, a missing module, a missing
    attribute and an object that cannot be called.
    """
    try:
        module_name, _, attributes = check_import_string(text).partition(":")
    except ValueError as exc:
        raise _refused(
            setting, f"found {text!r}, expected {exc}.", "Write for instance my_models:build."
        ) from exc
    found = _import_module(module_name, text, setting)
    for name in attributes.split("."):
        found = _attribute(found, name, text, setting)
    if not callable(found):
        raise _refused(
            setting,
            f"{text!r} names a {type(found).__name__}, expected a function or a class.",
            "Name the function that makes it.",
        )
    return found  # type: ignore[no-any-return]  # the caller checks what the user's function returns


def _import_module(name: str, text: str, setting: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name is None or not (name == exc.name or name.startswith(exc.name + ".")):
            raise
        raise _refused(
            setting,
            f"{text!r} names the module {name!r}, and there is no module {exc.name!r}.",
            "Install its package, or put its folder on PYTHONPATH.",
        ) from exc


def _attribute(owner: Any, name: str, text: str, setting: str) -> Any:
    try:
        return getattr(owner, name)
    except AttributeError as exc:
        near = difflib.get_close_matches(
            name, [known for known in dir(owner) if not known.startswith("_")], n=1
        )
        where = getattr(owner, "__file__", None) or getattr(owner, "__name__", repr(owner))
        raise _refused(
            setting,
            f"{text!r} names {name!r}, which {where} does not have.",
            f"Did you mean {near[0]!r}?" if near else "Check the name after the colon.",
        ) from exc


def _refused(setting: str, message: str, hint: str) -> ConfigurationError:
    return ConfigurationError([Problem(setting, message, hint)])


def first_line(file: Path, place: str) -> str:
    """The secret in the file; `place` is the setting that names it. Raises ConfigurationError if there is none."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        found = f"{str(file)!r} cannot be read: {error.strerror}."
        raise _refused(place, found, "Name a file that holds it.") from None
    except UnicodeDecodeError:
        # The error's text quotes a byte of the secret, and a chained traceback all of it.
        found = f"{str(file)!r} is not UTF-8 text."
        raise _refused(place, found, "Put the secret on its first line.") from None
    if not lines or not lines[0]:
        raise _refused(place, f"{str(file)!r} is empty.", "Put the secret on its first line.")
    return lines[0]
