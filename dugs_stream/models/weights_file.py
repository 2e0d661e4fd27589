"""Weights file: the state_dict inside a .safetensors, .pt or .pth file, alone or within a checkpoint.

Reading never runs code from the file: safetensors, or `torch.load(weights_only=True)`. Which part of a checkpoint is
the model is never guessed: `model.weights_key` names it.
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from dugs_stream.errors import ConfigurationError, ModelError, Problem

StateDict = Mapping[str, Any]
"""Names → tensors, as `state_dict` gives them, and modules' extra state; may carry torch's `_metadata`."""

_EXTRA_STATE = "_extra_state"
# Checkpoints hold {"state_dict": …} or {"model": {"state_dict": …}}. Deeper lie an optimizer's own tensors.
_DEEPEST = 2
_SHOWN = 3
_START = 64  # bytes that tell the kinds of files apart
_PIECE_BYTES = 1 << 20

SAVE_HINT = "Save it again from Python: safetensors.torch.save_file(model.state_dict(), 'model.safetensors')."


def read_weights(path: Path, key: str | None = None) -> StateDict:
    """The file's state_dict, or the one that a checkpoint holds under `key`, such as ema or model.state_dict.

    Raises ModelError for a file that cannot be read or is not a state_dict, ConfigurationError for a wrong key.
    """
    _refuse_other_kind(path)
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    if key is not None:
        return _under(key, content, path)
    if _is_state_dict(content):
        state: StateDict = content
        return state
    inside = [name for name, _ in _state_dicts(content)]
    hint = f"Set model.weights_key: {' or '.join(inside)}." if inside else SAVE_HINT
    raise ModelError(
        f"model.weights: {str(path)!r} holds {_described(content)}, expected a state_dict (parameter names → tensors). {hint}"
    )


def listed(names: list[str]) -> str:
    """The first names, enough to see a pattern that all of them have, and how many more there are."""
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _is_state_dict(content: object) -> bool:
    """An empty one counts, so that what is missing can be named."""
    return isinstance(content, Mapping) and all(
        isinstance(name, str) and (isinstance(entry, torch.Tensor) or name.rpartition(".")[2] == _EXTRA_STATE)
        for name, entry in content.items()
    )


def _state_dicts(content: object, depth: int = 1) -> Iterator[tuple[str, StateDict]]:
    """Each state_dict inside a checkpoint, with its dotted key."""
    if not isinstance(content, Mapping):
        return
    for key, entry in content.items():
        if not isinstance(key, str) or not isinstance(entry, Mapping) or not entry:
            continue
        if _is_state_dict(entry):
            yield key, entry
        elif depth < _DEEPEST:
            yield from ((f"{key}.{inner}", state) for inner, state in _state_dicts(entry, depth + 1))


def _under(key: str, content: object, path: Path) -> StateDict:
    entry = _entry_at(content, key)
    if entry is not None and _is_state_dict(entry):
        state: StateDict = entry  # type: ignore[assignment]  # `_is_state_dict` knows
        return state
    inside = [name for name, _ in _state_dicts(content)]
    if _is_state_dict(content):
        hint = "The file is a state_dict itself: leave model.weights_key out."
    elif inside:
        hint = f"It has state_dicts under {listed(inside)}."
    else:
        hint = f"It holds {_described(content)}. {SAVE_HINT}"
    what = "has no such key" if entry is None else f"holds {_described(entry)} there, not a state_dict"
    raise ConfigurationError(
        [Problem("model.weights_key", f"found {key!r}, but {str(path)!r} {what}.", hint)]
    )


def _entry_at(content: object, key: str) -> object:
    """The entry under a key, or under the dotted path that it is; None if there is none."""
    if not isinstance(content, Mapping):
        return None
    if key in content:
        found: object = content[key]
        return found
    head, dot, rest = key.partition(".")
    return _entry_at(content.get(head), rest) if dot else None


def _described(content: object) -> str:
    if isinstance(content, Mapping):
        return f"a mapping with the keys {listed([str(key) for key in content])}"
    kind = type(content).__name__
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def _refuse_other_kind(path: Path) -> None:
    """Files that lie where weights should, whose first bytes say what they are. An unreadable one is refused later."""
    try:
        with path.open("rb") as file:
            start = file.read(_START)
    except OSError:
        return
    is_safetensors = start[8:10] == b'{"' and int.from_bytes(start[:8], "little") < 1 << 32
    found = ""
    if start.startswith(b"version https://git-lfs"):
        found = "is a pointer of Git LFS, not the weights. Fetch them: git lfs pull."
    elif start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        found = (
            "is a web page (HTML or XML), not weights: a download failed or needs a login. Fetch it again."
        )
    elif path.suffix == ".safetensors" and start.startswith(b"PK\x03\x04"):
        found = "is a file of torch.save under another name. Let its name end in .pt."
    elif path.suffix != ".safetensors" and is_safetensors:
        found = "is a safetensors file under another name. Let its name end in .safetensors."
    if found:
        raise ModelError(f"model.weights: {str(path)!r} {found}")


def _read_safetensors(path: Path) -> Any:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as exc:
        raise ModelError(
            f"model.weights: {str(path)!r} is not a readable safetensors file: {exc}. Copy or save it again."
        ) from exc


def _read_torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            # Before it refuses a TorchScript archive, torch warns that it will run it.
            warnings.filterwarnings(
                "ignore", "'torch.load' received a zip file that looks like a TorchScript"
            )
            content = torch.load(path, map_location="cpu", weights_only=True)
            damaged = _damaged_entry(path)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, KeyError) as exc:
        raise ModelError(f"model.weights: {str(path)!r} {_unreadable(exc)}") from exc
    if damaged:
        raise ModelError(
            f"model.weights: {str(path)!r} is damaged: the bytes of {damaged} do not have the checksum that they were "
            "saved with. Copy or save it again."
        )
    return content


def _damaged_entry(path: Path) -> str | None:
    """The first entry of the archive whose bytes changed since it was saved, which torch does not look for."""
    if not zipfile.is_zipfile(path):
        return None  # the form of torch before 1.6, without checksums
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith("data.pkl")]
        # Saved with set_crc32_options(False) no entry has its true checksum.
        if not all(_is_intact(archive, name) for name in names):
            return None
        return next((name for name in archive.namelist() if not _is_intact(archive, name)), None)


def _is_intact(archive: zipfile.ZipFile, name: str) -> bool:
    try:
        with archive.open(name) as entry:
            while entry.read(_PIECE_BYTES):
                pass
    except zipfile.BadZipFile:
        return False
    return True


def _unreadable(exc: Exception) -> str:
    """Why, and what to do. torch's message recommends weights_only=False, which would run code from the file."""
    text = str(exc)
    if "TorchScript archives" in text:
        return (
            "is a TorchScript archive, which is a program and not only weights. Save its weights from Python: "
            "torch.save(torch.jit.load(path).state_dict(), 'weights.pt')."
        )
    if isinstance(exc, pickle.UnpicklingError) and ("Unsupported" in text or "not an allowed global" in text):
        return (
            "holds pickled Python objects beside tensors, and reading those would run code from the file. "
            f"{SAVE_HINT}"
        )
    return f"is damaged or not a file of torch.save ({type(exc).__name__}). Copy or save it again."
