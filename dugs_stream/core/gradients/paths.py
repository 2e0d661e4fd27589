"""Registry of the fast paths, one module a kind of layer; every other layer goes by `core.gradients.vjp`.

A new kind is a module with the two functions of `FastPath`, its cost in its docstring, and one entry here.
"""

from typing import Protocol

from dugs_stream.core.gradients import linear
from dugs_stream.core.gradients.capture import CallAxes, LayerCall
from dugs_stream.core.gradients.layers import Layer
from dugs_stream.core.sketch.count_sketch import Sketch
from dugs_stream.core.sketch.scaling import ScaledSum


class FastPath(Protocol):
    """A quicker way to the sketched gradients of one kind of layer; exact for each layer that it takes."""

    def takes(self, layer: Layer) -> bool:
        """Whether this path computes the layer's gradient exactly."""

    def add_terms(self, total: ScaledSum, call: LayerCall, axes: CallAxes, sketch: Sketch) -> None:
        """Add the sketched gradients (m, k) of the layer's parameters from one call of it to `total`."""


FAST_PATHS: tuple[FastPath, ...] = (linear,)


def fast_path(layer: Layer) -> FastPath | None:
    """The fast path that takes the layer, None if there is none."""
    return next((path for path in FAST_PATHS if path.takes(layer)), None)
