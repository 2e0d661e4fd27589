"""Projection of per-sample gradients: the model in tiles of one fixed size, its gradients sketched.

Matrix products change their last bits with the batch size, so every tile has the same number of samples, the
last one filled up with copies of its first: a sample's vector is then the same, bit for bit, beside any other
samples and in any place. (`core.probe` verifies that for each model, and otherwise takes tiles of one.)
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dugs_stream.core.full_precision import full_precision
from dugs_stream.core.gradients import vjp, whole, whole_batched
from dugs_stream.core.gradients.axes import samples_apart
from dugs_stream.core.gradients.capture import CallAxes, Capture, LayerCall, Writes, capture
from dugs_stream.core.gradients.index_guard import ranges_known
from dugs_stream.core.gradients.inference import inference
from dugs_stream.core.gradients.kinds import expanded, recorded, recorded_everywhere
from dugs_stream.core.gradients.layers import Layer, LayerPathError, OwnedParameter
from dugs_stream.core.gradients.memory import is_out_of_memory
from dugs_stream.core.gradients.paths import LayerPaths
from dugs_stream.core.losses.loss import Loss
from dugs_stream.core.losses.outputs import logits_of
from dugs_stream.core.memory_layout import CONTIGUOUS, Layout
from dugs_stream.core.model_writes import Held, undone
from dugs_stream.core.samples import (
    Inputs,
    Separate,
    batch_size,
    call_model,
    mapped,
    part_of,
    sample_at,
    structure_of,
)
from dugs_stream.core.sketch.count_sketch import Sketch
from dugs_stream.core.sketch.scaling import ScaledSum
from dugs_stream.core.transfer import DeviceRows, fetched, joined, sent_tile
from dugs_stream.errors import ModelError


@dataclass(frozen=True, eq=False)
class Projection:
    """The projected gradients of n samples.

    vectors    (n, k) float32, unit rows; a zero row for a norm that is NaN or below `LEAST_NORM`
    norms      (n,) float64, of the projected gradients; NaN for a gradient that is not finite
    labels     (n,) int64, those that the loss used, given or predicted; None without class labels
    predicted  (n,) int64, what the model itself would say beside class labels that were given; None if that is not known
    """

    vectors: NDArray[np.float32]
    norms: NDArray[np.float64]
    labels: NDArray[np.int64] | None
    predicted: NDArray[np.int64] | None = None


_ALONE = 32
"""Samples that the last resort computes one at a time and sketches together, as far as memory allows."""


class UnevenError(ModelError):
    """The rows of a chosen layer are not those of the tile: samples share an axis, or some pass by (an expert)."""


class NoAxisError(UnevenError):
    """An output of a layer has no axis of samples of its own; another path may give it one."""

    def __init__(self, layer: Layer) -> None:
        super().__init__(f"the output of {layer.title} has no axis of samples of its own")
        self.layers = (layer.name,)


class Projector:
    """A probed model, its chosen layers and their maps. Changes nothing of the model that its owner could see.

    layers        the chosen ones, and others with the parameters that they share with them
    axes          for each layer's name the axes of its calls in one forward pass, as the probe saw them
    paths         by which the gradient of each layer is computed
    tile          m, samples computed together
    written       what the model writes into itself, undone after each tile
    whole_copies  if not 0: by the whole loss of one sample, which runs this many times side by side
    at_once       by the whole loss of a tile's samples at once, each apart
    layout        how a tile of some samples lies in memory
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[Layer],
        axes: Mapping[str, Sequence[CallAxes]],
        paths: LayerPaths,
        loss: Loss,
        sketch: Sketch,
        tile: int,
        written: Sequence[Held] = (),
        whole_copies: int = 0,
        *,
        at_once: bool = False,
        layout: Layout = CONTIGUOUS,
    ) -> None:
        self._model = model
        self._layers = tuple(layers)
        self._axes = dict(axes)
        self.paths = paths
        self._loss = loss
        self._sketch = sketch
        self._written = tuple(written)
        self._whole_copies = whole_copies
        self._at_once = at_once
        self.layout = layout
        self._writes = Writes()
        self._dtype = torch.float64 if model_precision(model) == torch.float64 else torch.float32
        self.tile = tile
        self.has_isolated = False  # a tile whose samples had to be computed apart

    @property
    def is_last_resort(self) -> bool:
        """Whether the whole loss runs back for each sample."""
        return self._whole_copies > 0 or self._at_once

    def in_tiles(self, tile: int) -> "Projector":
        """The same projector with tiles of this size."""
        return self._changed(self.paths, tile, self.layout)

    def with_paths(self, paths: LayerPaths) -> "Projector":
        """The same projector with its layers on other paths."""
        return self._changed(paths, self.tile, self.layout)

    def laid_out(self, layout: Layout) -> "Projector":
        """The same projector with tiles that lie in memory like this."""
        return self._changed(self.paths, self.tile, layout)

    def _changed(self, paths: LayerPaths, tile: int, layout: Layout) -> "Projector":
        changed = Projector(
            *(self._model, self._layers, self._axes, paths, self._loss, self._sketch, tile),
            written=self._written,
            at_once=self._at_once,
            layout=layout,
        )
        changed._writes = self._writes
        return changed

    def formed(self, inputs: Inputs, labels: Tensor | None) -> dict[str, Tensor]:
        """The gradient of the last sample of a batch by parameter, before the sketch; inside `inference`.

        Raises LayerPathError if the path of one layer cannot compute it.
        """
        found: dict[str, Tensor] = {}
        failed: dict[str, Exception] = {}
        with undone(self._written), full_precision():
            captured = self._captured(mapped(inputs, self.layout.applied), labels)
            for call, axes in self._calls(captured):
                try:
                    gradients = self.paths.of(call.layer).formed(call, axes, batch_size(inputs) - 1)
                except Exception as error:
                    if is_out_of_memory(error):
                        raise
                    failed[call.layer.name] = error
                    continue
                for owned, gradient in zip(call.layer.parameters, gradients, strict=True):
                    found[owned.name] = found[owned.name] + gradient if owned.name in found else gradient
        if failed:
            raise LayerPathError(failed, next(iter(failed.values())))
        return found

    def outputs(self, inputs: Inputs) -> Any:
        """The model's outputs for a batch, as a loss is given them."""
        with inference(self._model), undone(self._written), torch.no_grad():
            return call_model(self._model, mapped(inputs, lambda leaf: leaf.to(self._sketch.device)))

    def project(
        self,
        inputs: Inputs | Separate,
        labels: Tensor | None,
        between_tiles: Callable[[], None] = lambda: None,
    ) -> Projection:
        """The projected gradients of a batch of n samples with labels (n, …).

        `between_tiles` is called there, and may raise. Raises ModelError if the model or its loss fails.
        """
        n = batch_size(inputs)
        if not n:
            return Projection(np.zeros((0, self._sketch.dimension), np.float32), np.zeros(0), None)
        with inference(self._model):
            step = _ALONE if self._whole_copies else self.tile
            found: list[DeviceRows] = []
            for start in range(0, n, step):
                if start:
                    between_tiles()
                some = slice(start, min(start + step, n))
                given = None if labels is None else labels[some]
                try:
                    found.append(self._one_tile(part_of(inputs, some), given))
                except UnevenError:
                    self.has_isolated = True
                    found += self._isolated(part_of(inputs, some), given)
        with model_errors(inputs):  # a GPU may only now say that something failed
            return Projection(*fetched(joined(found)))

    def _isolated(self, inputs: Inputs | Separate, labels: Tensor | None) -> list[DeviceRows]:
        """Each sample in a tile of its copies, which has the bits of any other tile; by the whole loss if that is not even."""
        found = []
        for at in range(batch_size(inputs)):
            own, label = part_of(inputs, slice(at, at + 1)), None if labels is None else labels[at : at + 1]
            try:
                found.append(self._one_tile(own, label))
            except UnevenError:
                found.append(self._surest._one_tile(own, label))  # noqa: SLF001 -- of the same class
        return found

    @cached_property
    def _surest(self) -> "Projector":
        """The same by the whole loss of one sample, for those that pass through other layers than the probe's."""
        return Projector(
            *(self._model, self._layers, {}, LayerPaths({}), self._loss, self._sketch, 1),
            written=self._written,
            whole_copies=1,
        )

    def _one_tile(self, inputs: Inputs | Separate, labels: Tensor | None) -> DeviceRows:
        """What a tile comes to. On a GPU nothing in it waits for the device."""
        m, device = batch_size(inputs), self._sketch.device
        tile = m if self._whole_copies else self.tile
        padded, given, ways = sent_tile(inputs, labels, tile, device, self.layout, self._sketch.scratch)
        known = ranges_known([way.host for way in ways], [way.tile for way in ways])
        with model_errors(inputs), undone(self._written), known:
            run = self._by_whole_loss if self.is_last_resort else self._by_capture
            total, used, predicted = run(padded, given)
        vectors, exponents = (part[:m] for part in total.total())
        is_class = used is not None and used.dim() == 1 and not used.is_floating_point()
        return DeviceRows(
            vectors,
            exponents,
            used[:m] if is_class and used is not None else None,
            None if predicted is None else predicted[:m],
        )

    def _by_capture(
        self, inputs: Inputs, labels: Tensor | None
    ) -> tuple[ScaledSum, Tensor | None, Tensor | None]:
        """The sum of the sketches (m, k) of all calls of the layers, the labels (m,) that the loss used, and the model's own."""
        captured = self._captured(inputs, labels)
        # To ask which samples are unusual would make a GPU wait.
        total = self._terms(captured, is_plain=self._sketch.device.type == "cpu")
        unusual = total.unusual_rows() if total.is_plain else None
        if unusual is not None:
            total = total.with_rows(self._terms(captured, is_plain=False), unusual)
        predicted = logits_of(captured.outputs).detach().argmax(1) if self._loss.takes_classes else None
        return total, captured.labels, predicted

    def _terms(self, captured: Capture, *, is_plain: bool) -> ScaledSum:
        total = ScaledSum(
            *(self.tile, self._sketch.dimension, self._dtype, self._sketch.device), is_plain=is_plain
        )
        with full_precision():
            for call, axes in self._calls(captured):
                self.paths.of(call.layer).add_terms(total, call, axes, self._sketch)
        return total

    def _by_whole_loss(self, inputs: Inputs, labels: Tensor | None) -> tuple[ScaledSum, Tensor | None, None]:
        """The same from the gradient that autograd gives for all uses of the parameters; it does not say what was predicted."""
        parameters = self._parameters
        m, most = batch_size(inputs), vjp.formed_at_once(sum(owned.shape.numel() for owned in parameters))
        step = vjp.equal_parts(m, most) if self._at_once else most  # vmap's bits may follow the size
        vectors, exponents, used = [], [], []
        for start in range(0, m, step):
            stacks, own = self._whole_gradients(inputs, labels, range(start, min(start + step, m)))
            sketched, scale = vjp.sketch_formed(stacks, parameters, self._sketch, self._dtype)
            vectors.append(sketched)
            exponents.append(scale)
            used.append(own)
        total = ScaledSum(m, self._sketch.dimension, self._dtype, self._sketch.device)
        total.add(torch.cat(vectors), torch.cat(exponents))
        labels_used = [own for own in used if own is not None]
        return total, torch.cat(labels_used) if labels_used else None, None

    def whole_gradients(self, inputs: Inputs, labels: Tensor | None) -> list[Tensor]:
        """The gradients of a batch for each parameter, (m, *shape), by the whole loss; inside `inference`."""
        return self._whole_gradients(inputs, labels, range(batch_size(inputs)))[0]

    def _whole_gradients(
        self, inputs: Inputs, labels: Tensor | None, which: range
    ) -> tuple[list[Tensor], Tensor | None]:
        """Of these samples, and the labels that the loss used for them."""
        if self._at_once:
            some = slice(which.start, which.stop)
            given = None if labels is None else labels[some]
            return whole_batched.batch_gradients(
                self._model, self._parameters, self._loss, part_of(inputs, some), given
            )
        found = [self._alone(inputs, labels, at, self._parameters) for at in which]
        used = [own for _, own in found if own is not None]
        return vjp.stacked([formed for formed, _ in found]), torch.cat(used) if used else None

    @property
    def _parameters(self) -> list[OwnedParameter]:
        """Of the layers, each once."""
        return list({owned.name: owned for layer in self._layers for owned in layer.parameters}.values())

    def _alone(
        self, inputs: Inputs, labels: Tensor | None, at: int, parameters: Sequence[OwnedParameter]
    ) -> tuple[list[Tensor], Tensor | None]:
        """One sample's gradients and its label (1, …), beside copies of itself if the model cannot take one."""
        repeats = [at] * self._whole_copies
        with undone(self._written):
            found, used = whole.sample_gradients(
                self._model,
                parameters,
                self._loss,
                mapped(inputs, lambda leaf: leaf[repeats]),
                None if labels is None else labels[repeats],
            )
        return found, None if used is None else used[-1:]

    def _captured(self, inputs: Inputs, labels: Tensor | None) -> Capture:
        return capture(
            self._model,
            self._layers,
            inputs,
            labels,
            self._loss,
            self._writes,
            self._axes,
            self.paths.using(recorded),
            self.paths.using(expanded),
            self.paths.using(recorded_everywhere),
        )

    def _calls(self, captured: Capture) -> Iterator[tuple[LayerCall, CallAxes]]:
        for call in captured.calls:
            axes = _axes_of(call)
            rows = _rows_of(call, axes)
            if rows not in (0, captured.losses.shape[0]):
                raise UnevenError(f"not every sample passes through {call.layer.title}")
            if rows:
                yield samples_apart(call, axes), axes


def _axes_of(call: LayerCall) -> CallAxes:
    axes = call.axes
    if axes is None:
        raise UnevenError(f"{call.layer.title} runs for some samples only, and did not for the probe's")
    if len(axes.inputs) != len(call.given) or len(axes.outputs) != len(call.outputs):
        raise ModelError(
            f"layer {call.layer.title} was called with {len(call.given)} inputs and {len(call.outputs)} outputs, "
            f"the probe saw {len(axes.inputs)} and {len(axes.outputs)}: its calls must not depend on the sample"
        )
    return axes


def _rows_of(call: LayerCall, axes: CallAxes) -> float:
    """How many samples passed through the layer; 0 if nothing that it returned has a gradient."""
    samples = 0.0
    for gradient, axis, rows in zip(call.gradients, axes.outputs, axes.output_rows, strict=True):
        if gradient is None or gradient.numel() == 0:
            continue
        if axis is None:
            raise NoAxisError(call.layer)
        samples = gradient.shape[axis] / rows
    return samples


def model_precision(model: nn.Module) -> torch.dtype | None:
    """The dtype of the model's first floating-point parameter; None if it has none."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), None)


@contextlib.contextmanager
def model_errors(inputs: Inputs | Separate) -> Iterator[None]:
    """Turns any exception of a model or a loss into a ModelError; an out-of-memory error passes unchanged."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        n = batch_size(inputs)
        raise ModelError(
            f"the model or its loss failed on {n} sample{'' if n == 1 else 's'} of {structure_of(sample_at(inputs, 0))}: "
            f"{type(error).__name__}: {error}"
        ) from error
