"""Model loading: build by the factory, fill in safe weights, hash.

Reading weights never runs code from them: .safetensors, or .pt/.pth by `torch.load(weights_only=True)`. The factory
runs under the seed, so that a model without weights is the same on every start (if the factory draws from torch's
CPU generator); the caller's random state is left as it was.
"""

from __future__ import annotations

import hashlib
import inspect
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.nn.parameter import is_lazy

from dugs_stream.errors import ConfigurationError, ModelError, Problem
from dugs_stream.models.settings import WEIGHT_SUFFIXES
from dugs_stream.references import import_string

_SHOWN = 3
"""Names that a message lists: enough to see a pattern, such as a prefix that all of them have."""

_GENERIC_NAMES = {"build", "create", "factory", "get_model", "load", "main", "make", "model"}

_SAVE_HINT = (
    "Save it again from Python: safetensors.torch.save_file(model.state_dict(), 'model.safetensors')."
)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """The model as loaded, on the CPU, in the mode its factory left it in.

    name            for people: the factory's function, or its module if the function has a generic name like build
    weights_digest  hex SHA-256 over every entry of the state_dict
    input_shape     the module's own `input_shape` (one sample, no batch axis), None if it has none
    """

    module: nn.Module
    name: str
    weights_digest: str
    input_shape: tuple[int, ...] | None


def load_model(factory: str, kwargs: Mapping[str, Any], weights: Path | str | None, seed: int) -> LoadedModel:
    """Build, fill and hash the model.

    Raises ConfigurationError if the settings name something that does not exist or is not a model, ModelError if
    the model or the file of weights cannot be used. An error of the factory becomes the cause of a ModelError; an
    ImportError inside the user's module passes untouched.
    """
    path = None if weights is None else _checked_path(Path(weights))
    build = import_string(factory, "model.factory")
    _check_arguments(build, factory, kwargs)
    module = _build_under_seed(build, factory, kwargs, seed)
    _refuse_lazy(module, factory)
    if path is not None:
        _fill(module, _read_weights(path), path)
    _refuse_not_finite(module, path)
    return LoadedModel(module, _name(factory), digest(module), _input_shape(module, factory))


def digest(module: nn.Module) -> str:
    """Hex SHA-256 over the state_dict: names in sorted order, dtypes, shapes, bytes in C order."""
    sha = hashlib.sha256()
    for name, tensor in sorted(_tensors(module).items()):
        sha.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        # Viewed as bytes before numpy sees it: numpy has no bfloat16.
        sha.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def _checked_path(path: Path) -> Path:
    if path.suffix not in WEIGHT_SUFFIXES:
        raise _refused(
            "model.weights",
            f"found {str(path)!r}, expected a file ending in {', '.join(WEIGHT_SUFFIXES)}.",
            _SAVE_HINT,
        )
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise _refused(
            "model.weights",
            f"{str(path)!r} {what} (looked for it as {str(path.resolve())!r}).",
            "Give the file of weights, or null for an untrained model.",
        )
    return path


def _check_arguments(build: Callable[..., Any], factory: str, kwargs: Mapping[str, Any]) -> None:
    try:
        signature = inspect.signature(build)
    except (TypeError, ValueError):
        return  # a builtin without a signature: calling it shows
    try:
        signature.bind(**kwargs)
    except TypeError as exc:
        raise _refused(
            "model.kwargs",
            f"they do not fit {factory}: {exc}.",
            f"It takes {factory.partition(':')[2]}{signature}.",
        ) from exc


def _build_under_seed(
    build: Callable[..., Any], factory: str, kwargs: Mapping[str, Any], seed: int
) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            module = build(**kwargs)
        except Exception as exc:
            raise ModelError(
                f"model.factory: {factory} failed with {type(exc).__name__}: {exc} "
                f"It was called with model.kwargs {dict(kwargs)!r}."
            ) from exc
    if not isinstance(module, nn.Module):
        raise _refused(
            "model.factory",
            f"{factory} returned a {type(module).__name__}, expected a torch.nn.Module.",
            "Return the model itself.",
        )
    return module


def _refuse_lazy(module: nn.Module, factory: str) -> None:
    lazy = [name for name, parameter in module.named_parameters() if is_lazy(parameter)]
    if lazy:
        raise ModelError(
            f"model.factory: {factory} returned a model whose parameters have no shape yet: {_listed(lazy)}. "
            "Run it once on an example inside the factory, before returning it."
        )


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    state = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in state.items()
    ):
        holds = (
            f"a mapping with the keys {_listed([str(key) for key in state])}"
            if isinstance(state, Mapping)
            else f"a {type(state).__name__}"
        )
        raise ModelError(
            f"model.weights: {str(path)!r} holds {holds}, expected a state_dict (parameter names → tensors). {_SAVE_HINT}"
        )
    return dict(state)


def _read_safetensors(path: Path) -> Any:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as exc:
        raise ModelError(
            f"model.weights: {str(path)!r} is not a readable safetensors file: {exc}. Copy or save it again."
        ) from exc


def _read_torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, KeyError) as exc:
        # torch's message recommends weights_only=False, which would run code from the file.
        names_code = "Unsupported" in str(exc) or "not an allowed global" in str(exc)
        if isinstance(exc, pickle.UnpicklingError) and names_code:
            raise ModelError(
                f"model.weights: {str(path)!r} holds pickled Python objects beside tensors, and reading those would run "
                f"code from the file. {_SAVE_HINT}"
            ) from exc
        raise ModelError(
            f"model.weights: {str(path)!r} is damaged or not a file of torch.save "
            f"({type(exc).__name__}). Copy or save it again."
        ) from exc


def _fill(module: nn.Module, state: Mapping[str, torch.Tensor], path: Path) -> None:
    own = _tensors(module)
    tied = {name: tensor.data_ptr() for name, tensor in own.items()}
    given = {tied[name] for name in state if name in tied}
    # A file has one name of a tied parameter; filling that fills the others.
    missing = [name for name in own if name not in state and not (own[name].numel() and tied[name] in given)]
    unexpected = [name for name in state if name not in own]
    shapes = [
        f"{name} is {tuple(state[name].shape)} in the file and {tuple(own[name].shape)} in the model"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    differences = [
        f"{len(names)} {kind}: {_listed(names)}"
        for kind, names in (
            ("missing in the file", missing),
            ("unknown to the model", unexpected),
            ("of another shape", shapes),
        )
        if names
    ]
    if differences:
        raise ModelError(
            f"model.weights: {str(path)!r} does not fit the model of model.factory: {'; '.join(differences)}. "
            "Give the factory and model.kwargs that the weights were trained with."
        )
    module.load_state_dict(dict(state), strict=False)


def _tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    """The state_dict's tensors; other objects in it, which modules may add, have no bytes to compare."""
    return {name: entry for name, entry in module.state_dict().items() if isinstance(entry, torch.Tensor)}


def _refuse_not_finite(module: nn.Module, path: Path | None) -> None:
    wrong = [
        name for name, parameter in module.named_parameters() if not bool(torch.isfinite(parameter).all())
    ]
    if wrong:
        whose = "the model of model.factory" if path is None else f"model.weights {str(path)!r}"
        raise ModelError(
            f"{whose} holds NaN or infinite numbers in {_listed(wrong)}: every gradient would be NaN. "
            "Give weights of a training run that did not diverge."
        )


def _input_shape(module: nn.Module, factory: str) -> tuple[int, ...] | None:
    shape = getattr(module, "input_shape", None)
    if shape is None:
        return None
    if not isinstance(shape, tuple | list | torch.Size) or not all(type(n) is int and n > 0 for n in shape):
        raise ModelError(
            f"model.factory: {factory} returned a model whose input_shape is {shape!r}, expected positive whole numbers, "
            "one for each axis, without the batch axis."
        )
    return tuple(shape)


def _name(factory: str) -> str:
    module, _, function = factory.partition(":")
    return module.rpartition(".")[2] if function in _GENERIC_NAMES else function


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _refused(place: str, message: str, hint: str) -> ConfigurationError:
    return ConfigurationError([Problem(place, message, hint)])
