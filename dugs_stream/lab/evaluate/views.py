"""Views of records: their gradients by loss and layers, their embeddings and their logits, in one pass over the data.

A row is a record, a record with a wrong label, or a copy of a record; all rows of one matrix are of the same model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dugs_stream.core.deduplicator import Deduplicator
from dugs_stream.core.gradient_spec import GradientSpec
from dugs_stream.core.gradients.inference import inference
from dugs_stream.core.losses.forms import WITH_TEMPERATURE, LabelForm
from dugs_stream.core.losses.outputs import logits_of
from dugs_stream.core.samples import Inputs, call_model, leaves, mapped, stacked, structure_of
from dugs_stream.errors import ConfigurationError, ModelError, Problem
from dugs_stream.lab.evaluate.greedy import unit_rows
from dugs_stream.lab.evaluate.plan import ALL_LAYERS, CLASSIFIERS_LOSSES, Gradient, LayerChoice, Plan
from dugs_stream.lab.evaluate.scaling import ScaledGradients

UNLABELLED = -1
_TOGETHER = 64
"""Rows that are viewed together: a forward pass for logits and embeddings, and what a stop in between may leave out."""


class Kind(IntEnum):
    """What a row is."""

    RECORD = 0
    WRONG_LABEL = 1
    COPY = 2


@dataclass(slots=True)
class Views:
    """What is known of N rows.

    labels      (N,) the class that the row is given; UNLABELLED without one
    origin      (N,) the record that the row is made from: its own number for a record
    kind        (N,) values of `Kind`
    copied_by   (N,) which way a copy was made, as a place in `ways`; −1 for others
    gradients   (N, k) unit rows by gradient; a zero row has no direction
    embeddings  (N, d) unit rows, the input of the model's last layer; None if the model has none such
    logits      (N, classes); None of a model whose outputs are not that
    """

    labels: NDArray[np.int64]
    origin: NDArray[np.int64]
    kind: NDArray[np.int64]
    copied_by: NDArray[np.int64]
    ways: tuple[str, ...]
    gradients: dict[Gradient, NDArray[np.float32]]
    embeddings: NDArray[np.float32] | None
    logits: NDArray[np.float64] | None
    remarks: list[str] = field(default_factory=list)

    def rows(self, kind: Kind) -> NDArray[np.int64]:
        """The rows of this kind."""
        return np.flatnonzero(self.kind == kind)

    @property
    def has_labels(self) -> bool:
        """Whether each record has one."""
        return bool(np.all(self.labels[self.kind == Kind.RECORD] != UNLABELLED))


@dataclass(frozen=True, slots=True)
class Row:
    """A row to be viewed."""

    inputs: Inputs
    label: int | None
    origin: int
    kind: Kind
    copied_by: int = -1


class Viewer:
    """Projects rows by every gradient of the plan, and runs the model once more for embeddings and logits.

    The example says whether records have labels: if it has none, none is wanted.
    """

    def __init__(self, spec: GradientSpec, plan: Plan, example: Row) -> None:
        self._spec = spec
        self.wants_labels = example.label is not None
        self._engines = {each: _deduplicator(spec, each) for each in _gradients(spec, plan, example.label)}
        self._last_layer, self.classes = self._probe(example)
        self._scaled = _Scaled(spec, plan, tuple(self._engines)) if self.classes else None
        self._numbers: list[tuple[int, int, int, int, int]] = []  # place, label, origin, kind, way of copying
        self._given = 0
        self.failures: list[str] = []
        self._vectors: dict[Gradient, list[NDArray[np.float32]]] = {each: [] for each in self._engines}
        self._embeddings: list[NDArray[np.float32] | None] = []
        self._logits: list[NDArray[np.float64] | None] = []

    @property
    def gradients(self) -> tuple[Gradient, ...]:
        """Those that are compared."""
        return tuple(self._engines)

    def _probe(self, example: Row) -> tuple[str, int | None]:
        """The name of the layer that runs last, and how many classes the logits have."""
        narrow = Deduplicator(
            self._spec.model,
            1,
            self._spec.loss.name if self._spec.loss.name in CLASSIFIERS_LOSSES else _own(self._spec),
            device=self._spec.device,
            tile=1,
        )
        takes_it = narrow.loss.takes_classes or narrow.loss.is_own
        found = narrow.probe(example.inputs, example.label if takes_it else None)
        return found.layers[-1].name, found.classes

    def add(self, rows: Sequence[Row], wants_stop: Callable[[], bool] = lambda: False) -> bool:
        """View some rows more. Returns whether all were: a stop leaves out the rows in work, and those after them.

        Rows that the model fails on are left out; `failures` says why, for each record.
        """
        first, self._given = self._given, self._given + len(rows)
        groups: dict[Any, list[int]] = {}
        for place, row in enumerate(rows):
            groups.setdefault(structure_of(row.inputs), []).append(place)
        for group in groups.values():
            if self._scaled is not None:
                self._scaled.fit([rows[place] for place in group], self._engines, wants_stop)
            for start in range(0, len(group), _TOGETHER):
                places = group[start : start + _TOGETHER]
                if not self._view(first, rows, places, wants_stop):
                    return False
        return True

    def _view(
        self, first: int, rows: Sequence[Row], places: Sequence[int], wants_stop: Callable[[], bool]
    ) -> bool:
        """View the rows at these places; if the model fails on them, each half alone, down to the row that it fails on."""
        try:
            if not self._take([rows[place] for place in places], wants_stop):
                return False
        except ModelError as error:
            if len(places) == 1:
                self.failures += [str(error)] if rows[places[0]].kind == Kind.RECORD else []
                return True
            middle = len(places) // 2
            halves = places[:middle], places[middle:]
            return all(self._view(first, rows, half, wants_stop) for half in halves)
        self._numbers += [
            (first + place, _class_of(row), row.origin, row.kind, row.copied_by)
            for place, row in zip(places, (rows[place] for place in places), strict=True)
        ]
        return True

    def _take(self, rows: Sequence[Row], wants_stop: Callable[[], bool]) -> bool:
        """All gradients, the embeddings and the logits of a few rows of one structure; nothing of them if told to stop."""
        batch, labels = stacked([row.inputs for row in rows]), [row.label for row in rows]
        found: dict[Gradient, NDArray[np.float32]] = {}
        for gradient, engine in self._engines.items():
            if wants_stop():
                return False
            takes_them = engine.loss.takes_classes or engine.loss.is_own
            given = labels if takes_them and None not in labels else None
            found[gradient] = engine.project(batch, given).vectors
        if self._scaled is not None:
            found |= self._scaled.project(batch, labels)
        embeddings, logits = self._forward(batch)
        for gradient, vectors in found.items():
            self._vectors.setdefault(gradient, []).append(vectors)
        self._embeddings.append(embeddings)
        self._logits.append(logits)
        return True

    def views(self, ways: Sequence[str]) -> Views:
        """All rows so far, in their order. A row whose record was left out is left out too."""
        numbers = np.array(self._numbers, dtype=np.int64).reshape(-1, 5)
        viewed, labels, origin, kind, copied_by = numbers.T
        order = np.argsort(viewed)
        kept = order[np.isin(origin[order], viewed)]
        rows_of = {int(viewed[row]): place for place, row in enumerate(kept)}
        embeddings, logits = _joined(self._embeddings), _joined(self._logits)
        # Those of a kind of records that came later, and could not be scaled, are not whole.
        whole = {each: np.concatenate(parts) for each, parts in self._vectors.items() if parts}
        return Views(
            labels[kept],
            np.array([rows_of[int(each)] for each in origin[kept]], dtype=np.int64),
            kind[kept],
            copied_by[kept],
            ways=tuple(ways),
            gradients={each: rows[kept] for each, rows in whole.items() if len(rows) == len(viewed)},
            embeddings=None if embeddings is None else unit_rows(embeddings[kept]),
            logits=logits[kept] if logits is not None and self.classes else None,
            remarks=[] if self._scaled is None else self._scaled.remarks,
        )

    def _forward(self, batch: Inputs) -> tuple[NDArray[np.float32] | None, NDArray[np.float64] | None]:
        """The inputs (m, d) of the last layer and the logits (m, classes), each None if it is not such a matrix."""
        model, caught = self._spec.model, list[Tensor]()

        def catch(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
            if inputs and isinstance(inputs[0], Tensor):
                caught.append(inputs[0].detach())

        handle = model.get_submodule(self._last_layer).register_forward_pre_hook(catch)
        try:
            with inference(model):
                given = self._spec.in_precision(batch, is_sample=False)
                outputs = call_model(model, mapped(given, lambda leaf: leaf.to(self._spec.device)))
        finally:
            handle.remove()
        m = leaves(batch)[0][1].shape[0]
        embedding = _pooled(caught[-1], given, m) if caught else None
        logits = logits_of(outputs)
        is_matrix = logits.dim() == 2 and len(logits) == m  # noqa: PLR2004  samples by classes
        return embedding, logits.detach().double().cpu().numpy() if is_matrix else None


class _Scaled:
    """The scaled gradients of the plan; fitted on the first batch, which is not small."""

    def __init__(self, spec: GradientSpec, plan: Plan, gradients: Sequence[Gradient]) -> None:
        self._spec = spec
        self._wanted = [
            each._replace(scaling=scaling)
            for each in gradients
            if each.loss == "label" and isinstance(each.layers, int)
            for scaling in plan.scalings
        ]
        self._fitted: dict[Gradient, ScaledGradients] = {}
        self.remarks: list[str] = []

    def fit(
        self, rows: Sequence[Row], engines: Mapping[Gradient, Deduplicator], wants_stop: Callable[[], bool]
    ) -> None:
        """Find the maps that are not there yet, on those of the rows that are records; all are of one structure."""
        records = [row for row in rows if row.kind == Kind.RECORD]
        wanted = [each for each in self._wanted if each not in self._fitted]
        if not records or not wanted or any(row.label is None for row in rows):
            return
        inputs = stacked([row.inputs for row in records])
        if not isinstance(inputs, Tensor):  # samples of several tensors
            return
        labels = torch.tensor([row.label for row in records])
        for gradient in wanted:
            if wants_stop():
                return
            engine = engines[gradient._replace(scaling="plain")]
            if not engine.is_probed:
                engine.probe(records[0].inputs, records[0].label)
            layers = [each.name for each in engine.chosen_layers]
            scaled = ScaledGradients(self._spec, layers, gradient.scaling)
            if scaled.misfit is not None:
                self._leave_out(gradient, scaled.misfit)
                continue
            try:
                scaled.fit(inputs, labels)
            except (RuntimeError, NotImplementedError, AttributeError) as error:  # what vmap cannot do
                why = str(error).partition("\n")[0]
                self._leave_out(gradient, f"its gradients cannot be formed side by side ({why})")
                continue
            self._fitted[gradient] = scaled

    def project(
        self, batch: Inputs, labels: Sequence[int | None]
    ) -> Iterator[tuple[Gradient, NDArray[np.float32]]]:
        """Unit rows for each gradient that has a map; nothing for samples of several tensors."""
        if not isinstance(batch, Tensor) or None in labels:
            return
        given = torch.tensor(labels)
        for gradient, scaled in self._fitted.items():
            yield gradient, scaled.project(batch, given)

    def _leave_out(self, gradient: Gradient, why: str) -> None:
        self._wanted.remove(gradient)
        self.remarks.append(f"{gradient}: left out, {why}")


def _gradients(spec: GradientSpec, plan: Plan, label: int | None) -> list[Gradient]:
    """Those of the plan that the model allows, and that of the settings; other losses than those of classes stand alone."""
    is_of_classes = spec.loss.form in {LabelForm.CLASS, LabelForm.PREDICTED}
    if plan.losses and not is_of_classes:
        problem = Problem(
            "--losses",
            f"these are for logits of classes, and gradient.loss is {spec.loss.name}.",
            "Leave it out: the gradients compared are those of that loss.",
        )
        raise ConfigurationError([problem])
    losses = plan.losses or (CLASSIFIERS_LOSSES if is_of_classes else (spec.loss.name,))
    if label is None:
        losses = tuple(each for each in losses if each != "label")
    temperatures = plan.temperatures or (spec.temperature,)
    found = [
        Gradient(loss, layers, temperature=temperature)
        for loss in losses
        for temperature in (temperatures if loss in WITH_TEMPERATURE else (1.0,))
        for layers in plan.layers
    ]
    as_set = plan.configured
    is_missing = as_set is not None and as_set not in found and as_set.loss in losses
    return [*found, *([as_set] if is_missing else [])]  # type: ignore[list-item]  # it is one


def _deduplicator(spec: GradientSpec, gradient: Gradient) -> Deduplicator:
    loss = gradient.loss if gradient.loss in CLASSIFIERS_LOSSES else _own(spec)
    return Deduplicator(
        spec.model,
        _layers(spec, gradient.layers),
        loss,
        spec.dimension,
        seed=spec.seed,
        device=spec.device,
        temperature=gradient.temperature,
    )


def _layers(spec: GradientSpec, layers: LayerChoice) -> int | list[str]:
    if layers == ALL_LAYERS:
        return ["*"]
    if isinstance(layers, int):
        return layers
    return spec.layers if isinstance(spec.layers, int) else list(spec.layers)


def _own(spec: GradientSpec) -> Any:
    """The loss of the settings as the library takes it: a built-in one by its name, else the function."""
    return spec.loss.function if spec.loss.is_own else spec.loss.name


def _class_of(row: Row) -> int:
    return UNLABELLED if row.label is None else row.label


def _pooled(embedding: Tensor, inputs: Inputs, m: int) -> NDArray[np.float32] | None:
    """(m, d): of several positions the mean, over those that an attention mask counts."""
    if embedding.dim() < 2 or len(embedding) != m:  # noqa: PLR2004  samples by features
        return None
    positions = embedding.float().reshape(m, -1, embedding.shape[-1])  # (m, t, d)
    mask = inputs.get("attention_mask") if isinstance(inputs, Mapping) else None
    if mask is None or tuple(mask.shape) != tuple(positions.shape[:2]):
        return np.asarray(positions.mean(1).cpu().numpy(), dtype=np.float32)
    weights = mask.to(positions)[:, :, None]
    return np.asarray(
        ((positions * weights).sum(1) / weights.sum(1).clamp(min=1)).cpu().numpy(), dtype=np.float32
    )


def _joined(pieces: Sequence[NDArray[Any] | None]) -> Any:
    """The pieces as one matrix; None if one is missing, or of another width."""
    found = [each for each in pieces if each is not None]
    if not found or len(found) < len(pieces) or len({each.shape[1] for each in found}) > 1:
        return None
    return np.concatenate(found)


def without_not_finite(views: Views) -> tuple[Views, int]:
    """The rows whose gradients, embeddings and logits are finite, and how many records are left out, with what is made of them."""
    known = [each for each in (*views.gradients.values(), views.embeddings, views.logits) if each is not None]
    is_finite = np.all([np.isfinite(each).all(axis=1) for each in known], axis=0)
    is_kept = is_finite & is_finite[views.origin]
    left_out = int((~is_kept & (views.kind == Kind.RECORD)).sum())
    if is_kept.all():
        return views, left_out
    return replace(
        views,
        labels=views.labels[is_kept],
        origin=(np.cumsum(is_kept) - 1)[views.origin[is_kept]],
        kind=views.kind[is_kept],
        copied_by=views.copied_by[is_kept],
        gradients={each: rows[is_kept] for each, rows in views.gradients.items()},
        embeddings=None if views.embeddings is None else views.embeddings[is_kept],
        logits=None if views.logits is None else views.logits[is_kept],
    ), left_out


def require_finite(views: Views) -> None:
    """Raise ModelError if no gradient has a direction."""
    if not any(vectors.any() for vectors in views.gradients.values()):
        raise ModelError(
            "no record's gradient has a direction: the model learns nothing from any of them, or its loss is constant"
        )
