"""Which k numbers stand for each sample? The model in tiles of one fixed size, its gradients sketched.

Matrix products change their last bits with the batch size, so every tile has the same number of samples, the
last one filled up with copies of its first: a sample's vector is then the same, bit for bit, in whatever
company and place it is computed. (`core.probe` verifies that of a model, and takes tiles of one where not.)
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dugs_stream.core.gradients.capture import Capture, LayerCall, catch, inference
from dugs_stream.core.gradients.layers import Layer
from dugs_stream.core.gradients.losses import Loss
from dugs_stream.core.gradients.memory import is_out_of_memory
from dugs_stream.core.gradients.vjp import CallAxes, local_gradients, scaled_output_gradients
from dugs_stream.core.sketch.count_sketch import Sketch, pairwise_sum
from dugs_stream.core.sketch.scaling import ScaledSum, magnitude_exponents, normalised, times_power_of_two
from dugs_stream.errors import ModelError

LEAST_NORM = 1e-30
"""Below this norm a float32 gradient is made of subnormal numbers: it has no direction worth the name."""

_FORMED_NUMBERS = 1 << 22
"""How many numbers of formed gradients are held at once, 16 MiB in float32; one sample's at the least."""


@dataclass(frozen=True, eq=False)
class Projection:
    """The projected gradients of n samples.

    vectors  (n, k) float32, unit rows; a zero row where there is no direction
    norms    (n,) float64, of the projected gradients; NaN where a gradient is not finite
    labels   (n,) int64, those that the loss used, given or predicted; None without class labels
    """

    vectors: NDArray[np.float32]
    norms: NDArray[np.float64]
    labels: NDArray[np.int64] | None


class Projector:
    """A probed model, its chosen layers and their maps. Changes nothing that its owner could see.

    axes: for each layer's name the axes of its calls in one forward pass, as the probe saw them.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[Layer],
        axes: Mapping[str, Sequence[CallAxes]],
        loss: Loss,
        sketch: Sketch,
        tile: int,
    ) -> None:
        self._model = model
        self._layers = tuple(layers)
        self._axes = dict(axes)
        self._loss = loss
        self._sketch = sketch
        self._copying: set[str] = set()
        self._dtype = torch.float64 if model_precision(model) == torch.float64 else torch.float32
        self.tile = tile

    def project(self, inputs: Tensor, labels: Tensor | None) -> Projection:
        """Inputs (n, …) and labels (n,) → the projected gradients. Raises ModelError where the model fails."""
        n = inputs.shape[0]
        vectors = np.zeros((n, self._sketch.dimension), dtype=np.float32)
        norms = np.zeros(n, dtype=np.float64)
        classes: list[NDArray[np.int64]] = []
        with inference(self._model):
            for start in range(0, n, self.tile):
                some = slice(start, min(start + self.tile, n))
                rows, used = self._one_tile(inputs[some], None if labels is None else labels[some])
                vectors[some], norms[some] = rows
                if used is not None:
                    classes.append(used)
        known = np.concatenate(classes) if classes else None
        return Projection(vectors, norms, known)

    def _one_tile(
        self, inputs: Tensor, labels: Tensor | None
    ) -> tuple[tuple[NDArray[np.float32], NDArray[np.float64]], NDArray[np.int64] | None]:
        m = inputs.shape[0]
        padded = _padded(inputs, self.tile).to(self._sketch.device)
        given = None if labels is None else _padded(labels, self.tile).to(self._sketch.device)
        with model_errors(inputs):
            caught = catch(self._model, self._layers, padded, given, self._loss, self._copying)
            total = self._sum_of_sketches(caught)
        vectors, exponents = (part[:m].cpu() for part in total.total())
        rows = _unit_rows(vectors.to(torch.float64).numpy(), exponents.numpy())
        used = caught.labels
        is_class = used is not None and not used.is_floating_point()
        return rows, used[:m].cpu().to(torch.int64).numpy() if used is not None and is_class else None

    def _sum_of_sketches(self, caught: Capture) -> ScaledSum:
        total = ScaledSum(self.tile, self._sketch.dimension, self._dtype, self._sketch.device)
        calls: dict[str, int] = {}
        with _full_precision():
            for use in caught.uses:
                name = use.layer.name
                axes = self._axes_of_call(use, calls.get(name, 0))
                calls[name] = calls.get(name, 0) + 1
                if use.layer.is_fast:
                    self._add_factors(total, use, axes)
                else:
                    self._add_local_gradients(total, use, axes)
        return total

    def _axes_of_call(self, use: LayerCall, call: int) -> CallAxes:
        known = self._axes[use.layer.name]
        axes = known[min(call, len(known) - 1)]  # a recurrent loop may run longer than the probe's did
        if len(axes.inputs) != len(use.inputs) or len(axes.outputs) != len(use.outputs):
            raise ModelError(
                f"layer {use.layer.title} was called with {len(use.inputs)} inputs and {len(use.outputs)} outputs, "
                f"the probe saw {len(axes.inputs)} and {len(axes.outputs)}: its calls must not depend on the sample"
            )
        return axes

    def _add_factors(self, total: ScaledSum, use: LayerCall, axes: CallAxes) -> None:
        """A Linear layer: never form the weight gradient unless that is the quicker route."""
        gradient, axis = use.gradients[0], axes.outputs[0]
        if gradient is None or axis is None:
            return
        g, g_exponents = normalised(_positions(gradient, axis, self._dtype))  # (m, t, g)
        for owned in use.layer.parameters:
            sketch = self._sketch.parameter(owned.name, owned.parameter.shape)
            if owned.local == "bias":
                total.add(sketch.vector(pairwise_sum(g, axis=1)), g_exponents)
                continue
            a, a_exponents = normalised(_positions(use.inputs[0], axis, self._dtype))  # (m, t, a)
            if sketch.prefers_spectrum(g.shape[1]):
                total.add_spectra(sketch.outer_spectrum(g, a), g_exponents + a_exponents)
            else:
                total.add(sketch.outer(g, a), g_exponents + a_exponents)

    def _add_local_gradients(self, total: ScaledSum, use: LayerCall, axes: CallAxes) -> None:
        gradients = scaled_output_gradients(use, axes)
        if gradients is None:
            return
        step = max(1, _FORMED_NUMBERS // max(use.layer.size, 1))
        vectors, exponents = [], []
        for start in range(0, self.tile, step):
            samples = range(start, min(start + step, self.tile))
            formed = [local_gradients(use, axes, gradients, sample) for sample in samples]
            one, own = self._sketch_formed(use.layer, formed)
            vectors.append(one)
            exponents.append(own)
        total.add(torch.cat(vectors), gradients.exponents + torch.cat(exponents))

    def _sketch_formed(self, layer: Layer, formed: list[list[Tensor]]) -> tuple[Tensor, Tensor]:
        """Formed gradients, one list of parameters a sample → vectors (s, k) × 2^exponents (s,)."""
        stacks = [torch.stack(parts).to(self._dtype) for parts in zip(*formed, strict=True)]
        exponents = torch.stack([magnitude_exponents(stack) for stack in stacks]).amax(dim=0)  # (s,)
        sketched = [
            self._sketch.parameter(owned.name, owned.parameter.shape).dense(
                times_power_of_two(stack, -exponents)
            )
            for owned, stack in zip(layer.parameters, stacks, strict=True)
        ]
        return pairwise_sum(torch.stack(sketched), axis=0), exponents


def model_precision(model: nn.Module) -> torch.dtype | None:
    """The dtype of the model's first floating-point parameter; None where there is none."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), None)


@contextlib.contextmanager
def model_errors(inputs: Tensor) -> Iterator[None]:
    """Whatever a model or a loss raises becomes a ModelError; running out of memory stays what it is."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ModelError(
            f"the model or its loss failed on {inputs.shape[0]} samples of shape {tuple(inputs.shape[1:])} "
            f"({inputs.dtype}): {type(error).__name__}: {error}"
        ) from error


def _unit_rows(
    vectors: NDArray[np.float64], exponents: NDArray[np.int32]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Vectors (m, k) × 2^exponents → unit rows, and norms in float64."""
    scaled = np.sqrt(np.add.reduce(vectors * vectors, axis=1))  # numpy adds each row in the same order
    norms = np.ldexp(scaled, exponents)
    norms[~np.isfinite(norms)] = np.nan
    usable = norms >= LEAST_NORM  # False for NaN
    units = np.zeros(vectors.shape, dtype=np.float32)
    units[usable] = vectors[usable] / scaled[usable, None]
    return units, norms


def _padded(rows: Tensor, tile: int) -> Tensor:
    """A fresh copy (tile, …), filled up with the first row: values that the model can take."""
    missing = tile - rows.shape[0]
    return torch.cat([rows, rows[:1].expand(missing, *rows.shape[1:])]) if missing else rows.clone()


def _positions(values: Tensor, axis: int, dtype: torch.dtype) -> Tensor:
    """(…, m at axis, …, d) → (m, t, d), everything between being positions."""
    moved = values.movedim(axis, 0)
    return moved.reshape(moved.shape[0], -1, moved.shape[-1]).to(dtype)


@contextlib.contextmanager
def _full_precision() -> Iterator[None]:
    """Our own products in full float32, whatever the process allows elsewhere; restored after."""
    # Up to torch 2.8 CUDA has only a flag, and the CPU's setting can only be made for the whole process.
    settings: list[tuple[Any, str, Any]] = [
        (backend, "fp32_precision", "ieee")
        for backend in (torch.backends.cuda.matmul, getattr(torch.backends.mkldnn, "matmul", None))
        if hasattr(backend, "fp32_precision")
    ] or [(torch.backends.cuda.matmul, "allow_tf32", False)]
    with contextlib.ExitStack() as stack:
        for backend, name, exact in settings:
            stack.callback(setattr, backend, name, getattr(backend, name))
            setattr(backend, name, exact)
        yield
