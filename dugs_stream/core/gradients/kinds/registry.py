"""Registry of the fast paths, one module a kind of layer; every other layer goes by `core.gradients.vjp`.

A new kind is a module with `takes`, `add_terms` and `formed` as in `core.gradients.kinds.linear`, its cost in its docstring, and one
entry here. It must be exact for each layer that it takes.
"""

from types import ModuleType

from dugs_stream.core.gradients.kinds import (
    convolution,
    embedding,
    linear,
    normalisation,
    transposed_convolution,
)
from dugs_stream.core.gradients.layers import Layer

FAST_PATHS = (linear, convolution, transposed_convolution, normalisation, embedding)


def fast_path(layer: Layer) -> ModuleType | None:
    """The fast path that takes the layer, None if there is none."""
    return next((path for path in FAST_PATHS if path.takes(layer)), None)
