"""The map from samples to vectors: a model, its chosen layers, a loss and a seeded projection.

Two samples can be compared only where all of it is the same. It holds no index.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dugs_stream.core.gradients.inference import inference
from dugs_stream.core.gradients.memory import is_out_of_memory
from dugs_stream.core.losses.loss import LossFunction
from dugs_stream.core.losses.registry import resolve_loss
from dugs_stream.core.probe import Probe, probe_model
from dugs_stream.core.projector import Projector, model_errors
from dugs_stream.core.samples import (
    Inputs,
    batch_of_one,
    call_model,
    is_empty,
    is_finite,
    leaves,
    mapped,
    sample_at,
    structure_of,
)
from dugs_stream.core.sketch.costs import Costs
from dugs_stream.core.sketch.count_sketch import Sketch
from dugs_stream.core.tiling import AutoTile


class GradientSpec:
    """Whose gradients are taken, and how they are projected; see Deduplicator for each argument.

    costs        by which routes are chosen; None: the built-in ones of the device
    temperature  T of the loss "energy"; 1 for every other

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
        tile: int | AutoTile,
        costs: Costs | None = None,
        temperature: float = 1.0,
    ) -> None:
        # A compiled model's own module: inductor's kernels know no hooks, and round otherwise.
        self.model: nn.Module = getattr(model, "_orig_mod", model)
        self.layers = _checked_layers(layers)
        self.loss = resolve_loss(loss, temperature)
        self.temperature = temperature
        self.dimension = _at_least_one("dimension", dimension)
        self.seed = seed
        self.device = resolve_device(device)
        self.tile = tile if isinstance(tile, AutoTile) else _at_least_one("tile", tile)
        self._precisions = _precisions_of(self.model)
        self._precision: torch.dtype | None = None
        self._costs = costs
        self._sketch: Sketch | None = None  # its maps are the same for every probe

    def changed(
        self, layers: int | Sequence[str] | None = None, dimension: int | None = None
    ) -> "GradientSpec":
        """The same model, loss and seed with other layers, or compressed to another k. Raises as the constructor does."""
        changed = copy.copy(self)
        changed.layers = self.layers if layers is None else _checked_layers(layers)
        changed.dimension = self.dimension if dimension is None else _at_least_one("dimension", dimension)
        changed._sketch = None  # noqa: SLF001 -- of the same class
        return changed

    def probe(
        self, example: Inputs, label: Any, tile: int | AutoTile | None = None, *, is_further: bool = False
    ) -> tuple[Probe, Projector]:
        """Run the model on one example, without a sample axis; what was found, and a projector fit for such samples.

        `tile` is how many of such samples are computed together; None: as many as of any.
        `is_further` says that samples which differ from it only in their lengths were probed before: a cheaper one will do.
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
            self._sketch = self._sketch or Sketch(self.seed, self.dimension, self.device, self._costs)
            together = self.tile if tile is None else tile
            return probe_model(
                self.model,
                self.layers,
                self.loss,
                self._sketch,
                together,
                sample,
                given,
                is_further=is_further,
            )

    def in_precision(self, inputs: Inputs, *, is_sample: bool = True) -> Inputs:
        """A sample (or a batch) without its history; floating-point values in the precision that the model takes.

        That is the model's own. Of a model of several, the widest that a forward pass takes, found out by this sample.
        """
        if isinstance(inputs, Tensor) and inputs.dtype is self._precision and not inputs.requires_grad:
            return inputs
        detached = mapped(inputs, Tensor.detach)
        if not any(leaf.is_floating_point() for _, leaf in leaves(detached)):
            return detached
        if self._precision is None and self._precisions:
            example = detached if is_sample else sample_at(detached, 0)
            self._precision = self._tried_precision(example)
        if not self._precisions:
            return detached
        return _converted(detached, self._precision or self._precisions[-1])

    def _tried_precision(self, example: Inputs) -> torch.dtype | None:
        """The first precision in which the model takes the example; None if it takes it in none."""
        if len(self._precisions) == 1:
            return self._precisions[0]
        self.model.to(self.device)
        for precision in self._precisions:
            batch = mapped(batch_of_one(_converted(example, precision)), lambda leaf: leaf.to(self.device))
            try:
                with inference(self.model):
                    call_model(self.model, batch)
            except Exception as error:
                if is_out_of_memory(error):
                    raise
                continue
            return precision
        return None


def resolve_device(device: str | torch.device) -> torch.device:
    """The device of this name; `auto` is a GPU if there is one."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def _precisions_of(model: nn.Module) -> list[torch.dtype]:
    """Of the model's floating-point parameters, the widest first, and of equals the first one's."""
    found = dict.fromkeys(each.dtype for each in model.parameters() if each.is_floating_point())
    return sorted(found, key=lambda dtype: -dtype.itemsize)


def _converted(inputs: Inputs, precision: torch.dtype) -> Inputs:
    return mapped(inputs, lambda leaf: leaf.to(precision) if leaf.is_floating_point() else leaf)


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
