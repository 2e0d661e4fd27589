"""Variants of a gradient: the same records under other layers or another k, their cosines and what they cost.

The records are decoded once. Each variant is probed as the daemon would probe it, and is timed after that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from dugs_stream.app.engine import Engine
from dugs_stream.config import Settings
from dugs_stream.core.gradients.inference import inference
from dugs_stream.core.projector import Projector
from dugs_stream.core.samples import Inputs, batch_of_one, mapped, structure_of
from dugs_stream.errors import ConfigurationError, ModelError
from dugs_stream.inputs.decoder import Sample
from dugs_stream.pipeline.decode import BatchAbandonedError, DecodedBatch
from dugs_stream.pipeline.project import RecordProjector
from dugs_stream.pipeline.projected import Projected
from dugs_stream.pipeline.tiles import Tiles
from dugs_stream.records import Record

_MOST_NUMBERS = 1 << 28
"""Of all exact gradients together: 1 GiB in float32, of 16 million parameters those of fifteen records."""
_COLUMNS = 1 << 18
"""Of a parameter that are multiplied at once in float64."""


@dataclass(frozen=True, slots=True)
class Variant:
    """The records under one choice of layers and k.

    vectors     (m, k) float32 unit rows; zeros for a record without a direction under this choice
    layers      their names, in the order in which they run
    parameters  how many numbers they hold
    rate        records a second, decoding left out
    failed      why there are none of these
    """

    vectors: NDArray[np.float32]
    layers: tuple[str, ...] = ()
    parameters: int = 0
    rate: float = 0.0
    failed: str | None = None


class Variants:
    """One set of records, decoded once; `engine` is the one that projected them before."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        records: Sequence[Record],
        wants_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._engine, self._wants_stop = engine, wants_stop
        self._tiles = engine.projector.tiles.usual, settings.gradient.tile_tokens
        self._decoded = engine.decoding.submit(records).result()

    def __len__(self) -> int:
        """How many records there are."""
        return len(self._decoded.records)

    def at(self, layers: int | Sequence[str] | None = None, dimension: int | None = None) -> Variant:
        """The records with other layers, or at another k; a choice that the model refuses says so.

        Raises BatchAbandonedError if told to stop, between two tiles.
        """
        spec = self._engine.projector.spec.changed(layers, dimension)
        projector = RecordProjector(
            self._engine.decoder, spec, lambda _name: nullcontext(), tiles=Tiles(*self._tiles)
        )
        try:
            projector.project(self._one_of_each)  # the probes, and memory that is taken once
            started = time.perf_counter()
            found = projector.project(self._decoded, self._wants_stop)
            seconds = time.perf_counter() - started
        except (ModelError, ConfigurationError) as error:
            return Variant(np.zeros((0, spec.dimension), np.float32), failed=str(error))
        vectors = np.zeros((len(self), spec.dimension), np.float32)
        for place, outcome in enumerate(found.outcomes):
            if isinstance(outcome, Projected):
                vectors[place] = found.projection.vectors[outcome.row]
        chosen = () if projector.found is None else projector.found.layers
        return Variant(
            vectors,
            tuple(layer.name for layer in chosen),
            sum(layer.parameters for layer in chosen),
            len(found.projection.norms) / max(seconds, 1e-9),
        )

    @cached_property
    def _one_of_each(self) -> DecodedBatch:
        """The first record of each structure: each is probed by itself."""
        found: dict[Hashable, int] = {}
        for place, outcome in enumerate(self._decoded.outcomes):
            if isinstance(outcome, Sample):
                found.setdefault(structure_of(outcome.inputs), place)
        places = list(found.values())
        return DecodedBatch(
            tuple(self._decoded.records[place] for place in places),
            tuple(self._decoded.outcomes[place] for place in places),
        )


class ExactCosines:
    """Cosines of whole gradients, before the sketch; of as many records as memory allows."""

    def __init__(
        self, engine: Engine, records: Sequence[Record], wants_stop: Callable[[], bool] = lambda: False
    ) -> None:
        self._engine, self._wants_stop = engine, wants_stop
        self._records = records
        self._projectors: dict[Hashable, Projector] = {}
        found = engine.projector.found
        self._numbers = sum(layer.parameters for layer in found.layers) if found is not None else 0

    @property
    def most(self) -> int:
        """How many records' gradients fit; fewer than three tell nothing of pairs."""
        return min(len(self._records), _MOST_NUMBERS // max(1, self._numbers))

    def of_first(self, count: int) -> NDArray[np.float64] | None:
        """(m, m) exact cosines of the first records; None if one of them has no gradient to form.

        Raises BatchAbandonedError if told to stop, between two records.
        """
        formed: dict[str, list[torch.Tensor]] = {}
        for outcome in self._engine.projector.decode(self._records[:count]):
            if self._wants_stop():
                raise BatchAbandonedError
            if not isinstance(outcome, Sample):
                return None
            for name, gradient in self._gradient(outcome).items():
                formed.setdefault(name, []).append(gradient.detach().float().cpu().flatten())
        if any(len(rows) < count for rows in formed.values()):
            return None
        products = sum((_gram(rows) for rows in formed.values()), np.zeros((count, count)))
        lengths = np.sqrt(np.diag(products))
        return products / np.outer(lengths, lengths) if lengths.all() else None

    def _gradient(self, decoded: Sample) -> dict[str, torch.Tensor]:
        """One record's gradient by parameter, from a batch of its own."""
        spec = self._engine.projector.spec
        sample, label = spec.in_precision(decoded.inputs), self._engine.projector.label_of(decoded)
        projector = self._projector(sample, label)
        inputs = mapped(batch_of_one(sample), lambda leaf: leaf.to(spec.device))
        given = None if label is None else label[None].to(spec.device)
        with inference(spec.model):
            if not projector.is_last_resort:
                return projector.formed(inputs, given)
            found = projector.whole_gradients(inputs, given)
            return {str(number): gradient[0] for number, gradient in enumerate(found)}

    def _projector(self, sample: Inputs, label: torch.Tensor | None) -> Projector:
        """That of samples of this structure; one sample a tile."""
        form = structure_of(sample), None if label is None else label.shape
        if form not in self._projectors:
            spec = self._engine.projector.spec
            _found, self._projectors[form] = spec.probe(sample, label, 1, is_further=True)
        return self._projectors[form]


def _gram(rows: Sequence[torch.Tensor]) -> NDArray[np.float64]:
    """M rows (p,) → (m, m), summed in float64, some columns at a time: the rows are never copied as a whole."""
    products = np.zeros((len(rows), len(rows)))
    for start in range(0, len(rows[0]), _COLUMNS):
        wide = torch.stack([row[start : start + _COLUMNS] for row in rows]).double().numpy()
        products += wide @ wide.T
    return products
