"""torch.func.vmap without its remarks: an operation that it has no rule for is computed a sample at a time, which is right."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn


def vectorised(function: Callable[..., Any], *inputs: Any) -> Any:
    """`function` for each entry on the first axis of all tensors in `inputs`, its results stacked along a first axis."""
    with _unremarked():
        return torch.func.vmap(function)(*inputs)


@contextlib.contextmanager
def _unremarked() -> Iterator[None]:
    switch = getattr(torch._C._functorch, "_set_vmap_fallback_warning_enabled", None)  # noqa: SLF001 -- nowhere else
    if switch is None:
        yield
        return
    switch(False)
    try:
        yield
    finally:
        switch(True)  # as torch starts


@contextlib.contextmanager
def attributes_kept(module: nn.Module) -> Iterator[None]:
    """Plain attributes that a pass makes anew (the weight of weight_norm, a cache) come back: vmap's tensors die with it."""
    before: list[tuple[dict[str, Any], dict[str, Any]]] = [
        (vars(part), dict(vars(part))) for part in module.modules()
    ]
    try:
        yield
    finally:
        for now, kept in before:
            now.clear()
            now.update(kept)
