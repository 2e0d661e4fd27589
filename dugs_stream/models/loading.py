"""Model loading: build by the factory, fill in safe weights, hash.

The factory runs under the seed, so that a model without weights is the same on every start (if the factory draws from torch's
CPU generator); the caller's random state is left as it was.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dugs_stream.errors import ConfigurationError, DugsError, ModelError, Problem
from dugs_stream.models.compiled import uncompiled
from dugs_stream.models.drawing import ParametersNotDrawn
from dugs_stream.models.fitness import refuse_not_finite, refuse_unfit, refuse_without_shape
from dugs_stream.models.settings import WEIGHT_SUFFIXES
from dugs_stream.models.untrained import warn_of_untrained
from dugs_stream.models.weights_file import SAVE_HINT, read_weights
from dugs_stream.models.weights_fit import COMPILED, fill, tensors_of
from dugs_stream.references import import_string

_BUILT_IN = "dugs_stream."
_NAMED_BY = {"timm:create_model": "model_name", "torchvision.models:get_model": "name"}
"""Factories of a whole library, by the argument that names the model."""
_GENERIC_NAMES = {"build", "create", "factory", "get_model", "load", "main", "make", "model"}


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """The model as loaded, on the CPU, in the mode its factory left it in.

    name            for people: the factory's function, or its module if the function has a generic name like build; of
                    a model in a folder the folder's, of timm's create_model its model_name
    weights_digest  hex SHA-256 over every entry of the state_dict
    input_shape     the module's own `input_shape` (one sample, no batch axis), None if it has none
    remarks         what an operator should know of how it was loaded, a sentence each
    vocabulary      the module's own `vocabulary_size`: token ids are below it; None if it has none
    max_tokens      the module's own `max_tokens`, the longest text; None if it has none
    kwargs          the arguments as the fingerprint holds them: by what they name where the factory knows it
    """

    module: nn.Module
    name: str
    weights_digest: str
    input_shape: tuple[int, ...] | None
    remarks: tuple[str, ...] = ()
    vocabulary: int | None = None
    max_tokens: int | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)


def load_model(
    factory: str,
    kwargs: Mapping[str, Any],
    weights: Path | str | None,
    seed: int,
    *,
    weights_key: str | None = None,
    weights_prefix: str | None = None,
) -> LoadedModel:
    """Build, fill and hash the model; `weights_key` and `weights_prefix` as in `ModelSettings`.

    Raises ConfigurationError if the settings name something that does not exist or is not a model, ModelError if
    the model or the file of weights cannot be used. An error of the factory becomes the cause of a ModelError; an
    ImportError inside the user's module passes untouched.
    """
    path = None if weights is None else _checked_path(Path(weights))
    build = import_string(factory, "model.factory")
    _check_arguments(build, factory, kwargs)

    is_built_in = factory.startswith(_BUILT_IN)

    def built(under: int) -> nn.Module:
        return uncompiled(_build_under_seed(build, factory, kwargs, under))

    # Every parameter comes from the file, or the file is refused: to draw AlexNet's takes as long as a hundred digits.
    draws_nothing = is_built_in and path is not None
    with ParametersNotDrawn() if draws_nothing else nullcontext():  # type: ignore[no-untyped-call]
        module = built(seed)
    remarks = refuse_unfit(module, factory)
    if path is not None:
        remarks += fill(module, read_weights(path, weights_key), path, weights_prefix)
    refuse_without_shape(module, factory)
    refuse_not_finite(module, path)
    if path is None and not is_built_in:  # those are known to load nothing, and warned of as settings
        module, untrained = warn_of_untrained(module, lambda: built(seed), lambda: built(seed ^ 1))
        remarks += untrained
    if path is None and is_built_in:
        remarks += getattr(module, "remarks", ())  # of what the weights leave out
    return LoadedModel(
        module,
        getattr(module, "given_name", _name(factory)) if is_built_in else _name(factory, kwargs),
        digest(module),
        _input_shape(module, factory),
        remarks,
        _own_number(module, "vocabulary_size"),
        _own_number(module, "max_tokens"),
        getattr(module, "fingerprint_kwargs", kwargs) if is_built_in else kwargs,
    )


def digest(module: nn.Module) -> str:
    """Hex SHA-256 over the state_dict: names in sorted order, dtypes, shapes, bytes in C order.

    The names are those of the model that is not compiled.
    """
    sha = hashlib.sha256()
    named = {name.replace(COMPILED, ""): tensor for name, tensor in tensors_of(module).items()}
    for name, tensor in sorted(named.items()):
        sha.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        # Viewed as bytes before numpy sees it: numpy has no bfloat16.
        sha.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def _checked_path(path: Path) -> Path:
    if path.suffix not in WEIGHT_SUFFIXES:
        raise _refused(
            "model.weights",
            f"found {str(path)!r}, expected a file ending in {', '.join(WEIGHT_SUFFIXES)}.",
            SAVE_HINT,
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
        except DugsError:
            raise
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


def _own_number(module: nn.Module, name: str) -> int | None:
    """Nothing but a positive number is meant: a model of the user's may use the name for something else."""
    found = getattr(module, name, None)
    return found if type(found) is int and found > 0 else None


def _name(factory: str, kwargs: Mapping[str, Any] | None = None) -> str:
    module, _, function = factory.partition(":")
    if factory in _NAMED_BY and isinstance(named := (kwargs or {}).get(_NAMED_BY[factory]), str):
        return named
    return module.rpartition(".")[2] if function in _GENERIC_NAMES else function


def _refused(place: str, message: str, hint: str) -> ConfigurationError:
    return ConfigurationError([Problem(place, message, hint)])
