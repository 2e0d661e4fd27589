"""The library's deduplicator: the samples from which a model still learns something new.

gradients → sketch → index → selection. `project` and `decide` change nothing; `accept` adds the uniques'
vectors to the index; `offer` does all three. It checks all that a caller may get wrong; the daemon, whose decoder
has checked each record, uses the same parts without it (`pipeline`). Not safe to call from two threads.
"""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dugs_stream.core.gradient_spec import GradientSpec
from dugs_stream.core.gradients.layers import ChosenLayer
from dugs_stream.core.index.unique_index import UniqueIndex
from dugs_stream.core.losses.forms import LabelForm
from dugs_stream.core.losses.loss import LossFunction
from dugs_stream.core.model_writes import Changes
from dugs_stream.core.probe import Probe
from dugs_stream.core.projector import Projection, Projector
from dugs_stream.core.samples import (
    Given,
    Inputs,
    Structure,
    as_inputs,
    batch_size,
    is_finite,
    require_batch,
    sample_at,
    structure_of,
)
from dugs_stream.core.selection import Explain, select
from dugs_stream.core.tiling import USUAL_TILE, AutoTile, TileChoice
from dugs_stream.records import Decision, Verdict

Labels = Sequence[Any] | NDArray[Any] | Tensor
"""One a sample, of any shape that the loss takes."""


class Deduplicator:
    """Judges samples by the gradient each of them would give the chosen layers of a trained model.

    model      any module; a sample is a tensor, a tuple or a mapping of tensors, and the model is called accordingly:
               `model(x)`, `model(*x)`, `model(**x)`, with the samples on the first axis of each; moved to `device` at the first use, otherwise
               left as it was found: modes, flags, weights and buffers are restored after every call
    layers     the last Z layers that run, or globs over dotted names of modules (or of bare parameters)
    loss       a built-in one by name (`core.losses.forms`), or a function (outputs, labels) or (outputs, labels, inputs),
               of n samples, -> (n,)
    dimension  k, numbers a sample
    threshold  τ: unique when the cosine to every earlier unique is below it
    seed       of the projection; the same seed gives the same map on every device
    device     "auto" is cuda if there is one; a new index searches there too
    tile       samples computed together; fixed, so that company never changes a vector. `AutoTile(time.perf_counter)` of
               `core.tiling` chooses by what tiles take at the first probe; another run may then differ in a vector's last bits
    index      uniques to go on from; a new, empty one by default
    temperature  T of the loss "energy", −T·log Σ exp(logits / T); 1 for every other
    """

    def __init__(
        self,
        model: nn.Module,
        layers: int | Sequence[str] = 2,
        loss: str | LossFunction = "label",
        dimension: int = 2048,
        threshold: float = 0.3,
        seed: int = 0,
        device: str | torch.device = "auto",
        *,
        tile: int | AutoTile = USUAL_TILE,
        min_gradient_norm: float = 0.0,
        explain: Explain = "nearest",
        index: UniqueIndex | None = None,
        temperature: float = 1.0,
    ) -> None:
        self._spec = GradientSpec(model, layers, loss, dimension, seed, device, tile, temperature=temperature)
        self.model, self.layers, self.loss = self._spec.model, self._spec.layers, self._spec.loss
        self.dimension, self.seed, self.device = self._spec.dimension, self._spec.seed, self._spec.device
        self.threshold = _within("threshold", threshold, -1.0, 1.0)
        self.min_gradient_norm = _within("min_gradient_norm", min_gradient_norm, 0.0, float("inf"))
        self.explain: Explain = explain
        gpu = self.device if self.device.type == "cuda" else None
        self.index = UniqueIndex(dimension, device=gpu) if index is None else index
        if self.index.dimension != dimension:
            raise ValueError(
                f"the index holds vectors of {self.index.dimension} numbers, dimension is {dimension}"
            )
        self._changes: Changes | None = None
        self._has_warned = False
        self._probe: Probe | None = None
        self._choice: TileChoice | None = None
        self._projectors: dict[Structure, Projector] = {}

    @property
    def is_probed(self) -> bool:
        """Whether the model was looked at and found fit."""
        return self._probe is not None

    @property
    def tile(self) -> int:
        """Samples computed together: cutting a batch at its multiples changes no vector."""
        if self._probe is not None:
            return self._probe.tile
        return self._spec.tile.usual if isinstance(self._spec.tile, AutoTile) else self._spec.tile

    @property
    def classes(self) -> int | None:
        """How many classes the logits have; None before the probe, and for a user's loss function."""
        return None if self._probe is None else self._probe.classes

    @property
    def chosen_layers(self) -> tuple[ChosenLayer, ...]:
        """The chosen layers in the order in which they run; empty before the probe."""
        return () if self._probe is None else self._probe.layers

    @property
    def vectors(self) -> NDArray[np.float32]:
        """The vectors of all uniques in sequence order, (uniques, k) float32 unit rows."""
        return self.index.vectors

    def probe(self, example: Given, label: Any = None) -> Probe:
        """Look at the model through one example, without a sample axis, and remember what was found.

        The loss "label" takes class 0 if no label is given; others get what is given. Later calls
        return what was found the first time. Raises ModelError if the model cannot be used
        (see `core.probe`), ValueError for an example that is empty or not finite.
        """
        if self._probe is None:
            self._probe_kind(self._spec.in_precision(as_inputs(example, "example")), label)
        assert self._probe is not None  # noqa: S101 -- found, or an error
        return self._probe

    def project(self, inputs: Given, labels: Labels | None = None) -> Projection:
        """The projected gradients of n samples, inputs (n, …), alone, in a tuple or by name, and labels (n,). Changes nothing.

        The first finite sample of a structure, and of shapes, that did not come before is a probe. Raises ValueError or TypeError for inputs or
        labels that cannot be meant, naming the positions; ModelError if the model fails.
        """
        given_inputs = as_inputs(inputs)
        require_batch(given_inputs)
        n = batch_size(given_inputs)
        batch = self._spec.in_precision(given_inputs, is_sample=False) if n else given_inputs
        given = self._as_labels(labels, n)
        projector = self._projector_for(batch, given) if n else None
        if projector is None:
            return Projection(np.zeros((n, self.dimension), np.float32), np.full(n, np.nan), None)
        self._require_known_classes(given)
        self._warn_if_trained()
        projection = projector.project(batch, given)
        if self._changes is not None:
            self._changes.forget()  # a model that writes into itself does so in our passes too
        return projection

    def decide(self, projection: Projection) -> list[Decision]:
        """One decision a sample, in order, as if each had come alone. Changes nothing."""
        vectors, norms = projection.vectors, projection.norms
        rule = {"threshold": self.threshold, "min_gradient_norm": self.min_gradient_norm}
        return select(self.index, vectors, norms, **rule, explain=self.explain)

    def accept(self, projection: Projection, decisions: Sequence[Decision]) -> None:
        """Add the vectors of the uniques to the index, in order. Raises ValueError for decisions out of date."""
        unique = [row for row, decision in enumerate(decisions) if decision.verdict is Verdict.UNIQUE]
        numbers = [decisions[row].sequence for row in unique]
        expected = list(range(len(self.index), len(self.index) + len(unique)))
        if numbers != expected:
            raise ValueError(
                f"the decisions number their uniques {numbers}, the index expects {expected}: they were made against "
                "another state of it; decide again"
            )
        self.index.add(projection.vectors[unique])

    def offer(self, inputs: Given, labels: Labels | None = None) -> list[Decision]:
        """Project, decide and accept n samples; one decision a sample, in order."""
        projection = self.project(inputs, labels)
        decisions = self.decide(projection)
        self.accept(projection, decisions)
        return decisions

    def _as_labels(self, labels: Labels | None, n: int) -> Tensor | None:
        """Labels (n, …): class numbers in int64, others as they are. Of what shape, only the loss knows."""
        if self.loss.predicts_labels:
            return None
        if labels is None:
            if self.loss.are_required:
                raise ValueError(f"loss {self.loss.name!r} needs labels, one a sample; found None")
            return None
        tensor = labels.detach().cpu() if isinstance(labels, Tensor) else _from_numbers(labels)
        expected = f"({n},)" if self.loss.takes_classes else f"({n}, …)"
        if tensor.shape[:1] != (n,) or (self.loss.takes_classes and tensor.dim() > 1):
            raise ValueError(f"labels have shape {tuple(tensor.shape)}, expected {expected}: one a sample")
        if self.loss.form not in {LabelForm.CLASS, LabelForm.POSITIONS}:
            return tensor
        if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
            raise TypeError(f"labels are {tensor.dtype}, expected class numbers (integers)")
        return tensor.to(torch.int64)

    def _require_known_classes(self, labels: Tensor | None) -> None:
        """Before the device sees them: an index out of range ends a CUDA process."""
        if labels is None or self.classes is None:
            return
        wrong = ((labels < 0) | (labels >= self.classes)).nonzero().flatten().tolist()
        if wrong:
            shown = ", ".join(f"{int(labels[at])} at position {at}" for at in wrong[:5])
            more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""  # noqa: PLR2004 -- as many as are shown
            raise ValueError(
                f"labels outside 0 … {self.classes - 1}: {shown}{more}; the model has {self.classes} classes"
            )

    def _warn_if_trained(self) -> None:
        """Once: vectors of a model before and after training are of two geometries."""
        if self._has_warned or self._changes is None or not self._changes.is_any():
            return
        self._has_warned = True
        warnings.warn(
            "The model's parameters or buffers changed between two calls: the vectors in the list are those of another "
            "model, and cosines with them mean nothing. Judge by a copy (copy.deepcopy(model)), and begin a new "
            "Deduplicator with each copy (docs/gradients.md).",
            stacklevel=3,
        )

    def _projector_for(self, inputs: Inputs, labels: Tensor | None) -> Projector | None:
        """That of samples of this structure, probed with the first finite one; None if there is none."""
        structure = structure_of(sample_at(inputs, 0))
        for at in range(batch_size(inputs)):
            if structure in self._projectors:
                break
            if is_finite(sample := sample_at(inputs, at)):
                # The label only has to be possible; whether it is in range is known after the probe.
                self._probe_kind(sample, None if labels is None or self.loss.takes_classes else labels[at])
        return self._projectors.get(structure)

    def _probe_kind(self, sample: Inputs, label: Any) -> None:
        structure = structure_of(sample)
        is_further = any(each.without_lengths == structure.without_lengths for each in self._projectors)
        label = 0 if label is None and self.loss.takes_classes else label
        tile = self._spec.tile
        if isinstance(tile, AutoTile) and self._choice is not None:
            tile = replace(tile, kept=self._choice.of(structure.numbers, tile.most))
        found, self._projectors[structure] = self._spec.probe(sample, label, tile, is_further=is_further)
        self._choice = self._choice or TileChoice(found.kept_tile, structure.numbers)
        said = () if self._probe is None else self._probe.remarks
        self._probe = self._probe or found
        self._changes = self._changes or Changes(self.model)
        for remark in found.remarks:
            if remark not in said:
                warnings.warn(remark, stacklevel=4)


def _from_numbers(labels: Sequence[Any] | NDArray[Any]) -> Tensor:
    try:
        array = np.array(labels)
    except ValueError as error:
        raise ValueError(
            f"labels are lists of different lengths, expected one shape for all samples ({error})"
        ) from None
    if array.size == 0:
        array = array.astype(np.int64)
    if array.dtype.kind not in "iufb":
        raise TypeError(f"labels are {array.dtype}, expected numbers")
    return torch.from_numpy(array)


def _within(name: str, value: float, low: float, high: float) -> float:
    if not low <= value <= high:
        raise ValueError(f"{name} is {value!r}, expected a number from {low} to {high}")
    return float(value)
