"""Filling of a model with a state_dict: torch's own strict load, under the names that the file meant.

What torch's strict load accepts is accepted, older forms included. Beyond that, a prefix that wrappers put before all
names (`module.`, `model.`, `_orig_mod.`) is taken off or put on, with a remark, if every name fits afterwards; and of
a tied parameter one name is enough.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from dugs_stream.errors import ConfigurationError, ModelError, Problem
from dugs_stream.models.weights_file import StateDict, listed

COMPILED = "_orig_mod."
"""What torch.compile puts before the names of the module that it wraps, at any depth."""

# torch.compile, DataParallel and its like, trainers that hold the network as `self.model`.
_WRAPPERS = (COMPILED, "module.", "model.")
# Prefixes that are tried for a hint; a teacher beside a student makes two.
_TRIED = 4


@dataclass(frozen=True, slots=True)
class _Misfit:
    """How a state_dict differs from a model; empty if it fits. `failed` is torch's own word for the rest."""

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    shapes: tuple[str, ...] = ()
    failed: str = ""

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.shapes or self.failed)

    def __str__(self) -> str:
        kinds = (
            ("missing in the file", self.missing),
            ("unknown to the model", self.unexpected),
            ("of another shape", self.shapes),
        )
        found = [f"{len(names)} {kind}: {listed(list(names))}" for kind, names in kinds if names]
        return "; ".join([*found, *([self.failed] if self.failed else [])])


def fill(module: nn.Module, state: StateDict, path: Path, prefix: str | None = None) -> tuple[str, ...]:
    """Load `state` into `module`; the remarks say what was done to its names.

    `prefix` (model.weights_prefix) is taken off the names that have it, and names without it are left out. Raises
    ModelError if the rest does not fit, with the prefix to set if one fits; ConfigurationError if no name has it.
    """
    remarks: list[str] = []
    if prefix is not None:
        chosen = _under(state, prefix)
        if not chosen:
            names = f"its names are {listed(list(state))}."
            problem = Problem(
                "model.weights_prefix", f"found {prefix!r}, but no name in {str(path)!r} has it:", names
            )
            raise ConfigurationError([problem])
        if len(chosen) < len(state):
            remarks.append(
                f"{len(state) - len(chosen)} of {len(state)} entries of {str(path)!r} are left out: their names do not "
                f"begin with model.weights_prefix {prefix!r}"
            )
        state = chosen
    misfit = _load(module, state)
    if not misfit:
        return (*remarks, *_whole_numbers(module, state, path))
    for remark, renamed in _renamings(module, state):
        if not _load(module, renamed):
            return (*remarks, f"names in {str(path)!r}: {remark}", *_whole_numbers(module, renamed, path))
    raise ModelError(
        f"model.weights: {str(path)!r} does not fit the model of model.factory: {misfit}. "
        + _way_out(module, state, prefix)
    )


def tensors_of(module: nn.Module) -> dict[str, torch.Tensor]:
    """The state_dict's tensors; other objects in it, which modules may add, have no bytes to compare."""
    return {name: entry for name, entry in module.state_dict().items() if isinstance(entry, torch.Tensor)}


def _whole_numbers(module: nn.Module, state: StateDict, path: Path) -> Iterator[str]:
    """Integers for floating-point parameters, which torch converts in silence: quantised weights without their scales?"""
    names = [
        name
        for name, tensor in tensors_of(module).items()
        if tensor.is_floating_point()
        and isinstance(entry := state.get(name), torch.Tensor)
        and not (entry.is_floating_point() or entry.is_complex())
    ]
    if names:
        yield (
            f"{str(path)!r} holds whole numbers ({state[names[0]].dtype}) for floating-point parameters: {listed(names)}. "
            "If they are quantised weights, their scales are missing: give the weights in floating point"
        )


def _load(module: nn.Module, state: StateDict) -> _Misfit:
    """Torch's load, and what it found. Hooks of modules translate older forms inside it."""
    shapes = _other_shapes(tensors_of(module), state)
    fitting = _renamed(state, lambda name: None if name in shapes else name)
    given = _addresses(tensors_of(module), fitting)
    try:
        result = module.load_state_dict(fitting, strict=False)
    except Exception as exc:  # noqa: BLE001 (a RuntimeError of torch, or what a module's own loading raises)
        said = " ".join(str(exc).split())
        return _Misfit(shapes=tuple(shapes.values()), failed=f"{type(exc).__name__}: {said}")
    own = tensors_of(module)
    # A file has one name of a tied parameter; filling that fills the others.
    missing = [name for name in result.missing_keys if name not in shapes and not _is_at(own, name, given)]
    return _Misfit(tuple(missing), tuple(result.unexpected_keys), tuple(shapes.values()))


def _other_shapes(own: dict[str, torch.Tensor], state: StateDict) -> dict[str, str]:
    """A sentence for each name of another shape. A single number may be of shape (1,), as torch takes it."""
    return {
        name: f"{name} is {tuple(state[name].shape)} in the file and {tuple(tensor.shape)} in the model"
        for name, tensor in own.items()
        if name in state
        and isinstance(state[name], torch.Tensor)
        and not is_lazy(tensor)
        and state[name].shape != tensor.shape
        and not (tensor.dim() == 0 and state[name].shape == (1,))
    }


def _addresses(own: dict[str, torch.Tensor], state: StateDict) -> set[int]:
    return {own[name].data_ptr() for name in state if name in own and not is_lazy(own[name])}


def _is_at(own: dict[str, torch.Tensor], name: str, addresses: set[int]) -> bool:
    tensor = own.get(name)
    return tensor is not None and tensor.numel() > 0 and tensor.data_ptr() in addresses


def _renamings(module: nn.Module, state: StateDict) -> Iterator[tuple[str, StateDict]]:
    """Ways to read the names as a wrapper's, each with the words for it."""
    taken: list[str] = []
    if any(COMPILED in name for name in state):
        state = _renamed(state, lambda name: name.replace(COMPILED, ""))
        taken.append(COMPILED)
        yield f"{COMPILED!r} is left out of them", state
    while prefix := next((each for each in _WRAPPERS if all(name.startswith(each) for name in state)), None):
        state = _under(state, prefix)
        if not state:
            return
        taken.append(prefix)
        yield f"{' and '.join(map(repr, taken))} {'is' if len(taken) == 1 else 'are'} left out of them", state
    if taken:
        return
    for prefix in _WRAPPERS:
        if all(name.startswith(prefix) for name in tensors_of(module)):
            yield f"{prefix!r} is put before them", _renamed(state, lambda name, put=prefix: put + name)  # type: ignore[misc]


def _under(state: StateDict, prefix: str) -> StateDict:
    """The entries whose names begin with the prefix, without it."""
    return _renamed(state, lambda name: name[len(prefix) :] if name.startswith(prefix) else None)


def _renamed(state: StateDict, rename: Callable[[str], str | None]) -> StateDict:
    """The entries under new names, without those renamed to None; torch's metadata, a version a module, goes along."""
    entries: OrderedDict[str, Any] = OrderedDict()
    for name, entry in state.items():
        new = rename(name)
        if new is not None:
            entries[new] = entry
    metadata = getattr(state, "_metadata", None)
    if metadata is not None:
        modules = {rename(f"{name}." if name else ""): facts for name, facts in metadata.items()}
        entries.__dict__["_metadata"] = {
            name.removesuffix("."): facts for name, facts in modules.items() if name is not None
        }
    return entries


def _way_out(module: nn.Module, state: StateDict, prefix: str | None) -> str:
    before = prefix or ""
    fitting = [found for found in _prefixes(module, state) if not _load(module, _under(state, found))]
    if fitting:
        named = " or ".join(f"{before}{found}" for found in fitting)
        return f"Set model.weights_prefix: {named} to take the weights whose names begin with it."
    return "Give the factory and model.kwargs that the weights were trained with."


def _prefixes(module: nn.Module, state: StateDict) -> list[str]:
    """What stands in the file before names that the model has, most often first."""
    own = tensors_of(module)
    # Of weights that torch translates, such as weight_g, no own name ends the file's: then the first part is tried.
    found: Counter[str] = Counter()
    for name in state:
        parts = name.split(".")
        for cut in range(1, len(parts)):
            if ".".join(parts[cut:]) in own or cut == 1:
                found[".".join(parts[:cut]) + "."] += 1
    return [prefix for prefix, _ in found.most_common(_TRIED)]
