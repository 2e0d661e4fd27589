"""Fitness of a model for gradients: each kind that has none, or not yet, is refused in one sentence.

TorchScript, the meta device, inference mode, lazy shapes, quantised layers, NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from dugs_stream.errors import ModelError
from dugs_stream.models.weights_file import listed

_ON_META = (
    "a model on the meta device, whose parameters have no numbers: {}. Build it on the CPU, or call "
    "model.to_empty(device='cpu') and initialise it inside the factory."
)
_IN_INFERENCE_MODE = (
    "a model built inside torch.inference_mode(), whose tensors never have gradients: {}. Build it outside that "
    "block; torch.no_grad() does no harm."
)


def refuse_unfit(module: nn.Module, factory: str) -> tuple[str, ...]:
    """Raise ModelError for a model that can have no gradients with any weights; else remarks on parts of it."""
    scripted = [
        name or "itself" for name, each in module.named_modules() if isinstance(each, torch.jit.ScriptModule)
    ]
    if scripted:
        raise _unfit(
            factory,
            f"a TorchScript model ({listed(scripted)}), whose layers cannot be hooked, so that they have no gradients of "
            "their own. Return the Python model that it was made from, and give the script's state_dict as model.weights.",
        )
    for is_such, found in ((_is_on_meta, _ON_META), (torch.Tensor.is_inference, _IN_INFERENCE_MODE)):
        names = [name for name, tensor in _entries(module) if not is_lazy(tensor) and is_such(tensor)]
        if names:
            raise _unfit(factory, found.format(listed(names)))
    return _quantised(module, factory)


def refuse_without_shape(module: nn.Module, factory: str) -> None:
    """Raise ModelError for lazy parameters that neither the factory nor the file of weights gave a shape."""
    lazy = [name for name, tensor in _entries(module) if is_lazy(tensor)]
    if lazy:
        raise _unfit(
            factory,
            f"a model whose parameters have no shape yet: {listed(lazy)}. "
            "Run it once on an example inside the factory, before returning it.",
        )


def refuse_not_finite(module: nn.Module, path: Path | None) -> None:
    """Raise ModelError for parameters that are NaN or infinite, and for buffers that are NaN.

    An infinite buffer can be meant: a causal mask, the first bounds of an observer.
    """
    parameters = [name for name, tensor in module.named_parameters() if _has(tensor, torch.isfinite)]
    buffers = [name for name, tensor in module.named_buffers() if _has(tensor, _is_number)]
    if not parameters and not buffers:
        return
    whose = "the model of model.factory" if path is None else f"model.weights {str(path)!r}"
    raise ModelError(
        f"{whose} holds NaN or infinite numbers in {listed(parameters + buffers)}: every gradient would be NaN. "
        "Give weights of a training run that did not diverge."
    )


def _quantised(module: nn.Module, factory: str) -> tuple[str, ...]:
    """Quantised layers keep packed integers and no parameters; refused if nothing else can be chosen."""
    names = [name or "itself" for name, each in module.named_modules() if _is_quantised(each)]
    if not names:
        return ()
    if not any(tensor.is_floating_point() for tensor in module.parameters()):
        raise _unfit(
            factory,
            f"a quantised model ({listed(names)}), whose weights are integers without gradients. Return the float "
            "model that it was made from.",
        )
    return (
        f"{len(names)} layers are quantised and cannot be chosen, last: Z passes them over: {listed(names)}",
    )


def _is_quantised(module: nn.Module) -> bool:
    kind = type(module).__module__
    # Its packed weight is read by a method; stubs and the packed parameters themselves have none.
    return kind.startswith("torch.") and ".quantized" in kind and callable(getattr(module, "weight", None))


def _entries(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    return chain(module.named_parameters(), module.named_buffers())


def _has(tensor: torch.Tensor, is_fine: Callable[[torch.Tensor], torch.Tensor]) -> bool:
    """Whether an entry is not fine; whole numbers always are, and sparse tensors have no such test."""
    if not (tensor.is_floating_point() or tensor.is_complex()) or tensor.layout is not torch.strided:
        return False
    if tensor.dtype in (torch.float32, torch.float64) and bool(torch.isfinite(tensor.detach().sum())):
        return False  # one number that is NaN or infinite would make the sum so, which is had in a tenth of the time
    return not bool(is_fine(tensor.detach()).all())


def _is_on_meta(tensor: torch.Tensor) -> bool:
    return tensor.is_meta


def _is_number(tensor: torch.Tensor) -> torch.Tensor:
    return ~torch.isnan(tensor)


def _unfit(factory: str, found: str) -> ModelError:
    return ModelError(f"model.factory: {factory} returned {found}")
