"""The map from samples to vectors: a model, its chosen layers, a loss and a seeded projection.

Two samples can be compared only where all of it is the same. It holds no index and remembers nothing.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dugs_stream.core.losses.loss import LossFunction
from dugs_stream.core.losses.registry import resolve_loss
from dugs_stream.core.probe import Probe, probe_model
from dugs_stream.core.projector import Projector, model_errors, model_precision
from dugs_stream.core.samples import Inputs, batch_of_one, is_empty, is_finite, mapped, structure_of
from dugs_stream.core.sketch.count_sketch import Sketch


class GradientSpec:
    """Whose gradients are taken, and how they are projected; see Deduplicator for each argument.

    Raises TypeError or ValueError for arguments that cannot be meant.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: int | Sequence[str],
        loss: str | LossFunction,
        dimension: int,
        seed: int,
        device: str | torch.device,
        tile: int,
    ) -> None:
        # A compiled model's own module: inductor's kernels know no hooks, and round otherwise.
        self.model: nn.Module = getattr(model, "_orig_mod", model)
        self.layers = _checked_layers(layers)
        self.loss = resolve_loss(loss)
        self.dimension = _at_least_one("dimension", dimension)
        self.seed = seed
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device)
        self.tile = _at_least_one("tile", tile)
        self._sketch: Sketch | None = None  # its maps are the same for every probe

    def probe(self, example: Inputs, label: Any) -> tuple[Probe, Projector]:
        """Run the model on one example, without a sample axis; what was found, and a projector fit for such samples.

        Moves the model to the device. Raises ModelError if the model cannot be used (see `core.probe`),
        ValueError for an example that is empty or not finite.
        """
        sample = self.in_precision(example)
        if is_empty(sample) or not is_finite(sample):
            raise ValueError(
                f"the example of {structure_of(sample)} is empty or not finite; give another one"
            )
        given = None if label is None else torch.as_tensor(label)
        # What is made here must be able to take part in autograd.
        with torch.inference_mode(mode=False), model_errors(batch_of_one(sample)):
            self.model.to(self.device)
            self._sketch = self._sketch or Sketch(self.seed, self.dimension, self.device)
            return probe_model(self.model, self.layers, self.loss, self._sketch, self.tile, sample, given)

    def in_precision(self, inputs: Inputs) -> Inputs:
        """The inputs without their history; floating-point values in the model's own precision."""
        precision = model_precision(self.model)

        def converted(leaf: Tensor) -> Tensor:
            leaf = leaf.detach()
            return leaf.to(precision) if leaf.is_floating_point() and precision is not None else leaf

        return mapped(inputs, converted)


def _checked_layers(layers: int | Sequence[str]) -> int | tuple[str, ...]:
    if isinstance(layers, bool) or not isinstance(layers, int | Sequence) or isinstance(layers, str):
        raise TypeError(f"layers is {layers!r}, expected a number (the last Z layers) or a list of globs")
    if isinstance(layers, int):
        return _at_least_one("layers", layers)
    if not layers or not all(isinstance(glob, str) for glob in layers):
        raise ValueError(f"layers is {layers!r}, expected at least one glob over module names")
    return tuple(layers)


def _at_least_one(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is {value!r}, expected an integer")
    if value < 1:
        raise ValueError(f"{name} is {value}, expected at least 1")
    return value
