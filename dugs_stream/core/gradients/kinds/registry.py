"""Registry of the fast paths, one module a kind of layer; every other layer goes by `core.gradients.vjp`.

A new kind is a module with `takes`, `add_terms` and `formed` as in `core.gradients.kinds.linear`, its cost in its docstring,
and one entry here. `takes` is a cheap claim; the probe holds it against autograd, and a layer for which it is wrong goes
by its next path (`core.gradients.paths`). Where the claim alone proves too little, `needs_trial` says so.
"""

from types import ModuleType

from dugs_stream.core.gradients.kinds import (
    convolution,
    elementwise,
    embedding,
    expanded,
    hf_conv1d,
    linear,
    normalisation,
    recorded,
    recurrent,
    transposed_convolution,
)
from dugs_stream.core.gradients.layers import Layer

FAST_PATHS = (
    linear,
    hf_conv1d,
    convolution,
    transposed_convolution,
    normalisation,
    elementwise,
    embedding,
    recurrent,
    recorded,
    expanded,
)


def fast_paths(layer: Layer) -> tuple[ModuleType, ...]:
    """The fast paths that claim the layer, in their order."""
    return tuple(path for path in FAST_PATHS if path.takes(layer))


def needs_trial(path: ModuleType, layer: Layer) -> bool:
    """Whether only a gradient other than zero shows that this path is right for the layer."""
    return hasattr(path, "needs_trial") and bool(path.needs_trial(layer))
