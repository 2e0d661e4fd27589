"""The engine as the benchmarks start it for a case: one tile for the whole batch, on the CPU."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.layer_cases import SEED, Case, exact_gradients
from dugs_stream import Deduplicator
from dugs_stream.core.projector import Projection
from tests.support.oracles.gradients import sketched

TOLERANCE = 1e-3
"""Length of the difference of two unit vectors, float32 through a whole network against the definition in float64. A
wrong term is a hundred times as long."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A deduplicator for the case and one k; it is probed by the first projection."""

    case: Case
    deduplicator: Deduplicator

    def project(self) -> Projection:
        """The vectors of the whole batch."""
        return self.deduplicator.project(self.case.inputs, self.case.labels)

    @property
    def paths(self) -> dict[str, int]:
        """How many of the chosen layers go by which path."""
        return dict(Counter(layer.path for layer in self.deduplicator.chosen_layers))


def engine_for(case: Case, dimension: int, seed: int = SEED) -> Engine:
    """Remarks of the probe are no news here: the paths are in the table."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        deduplicator = Deduplicator(
            case.model, case.layers, case.loss, dimension, seed=seed, tile=case.samples, device="cpu"
        )
        engine = Engine(case, deduplicator)
        engine.project()
    return engine


def require_definition(engine: Engine, rows: list[int]) -> float:
    """Hold vectors against autograd's gradients in float64, sketched entry by entry. The largest difference."""
    case, spec = engine.case, engine.deduplicator
    expected = np.stack(
        [
            _unit(sketched({name: g.numpy() for name, g in gradients.items()}, spec.seed, spec.dimension))
            for gradients in exact_gradients(case, rows)
        ]
    )
    worst = float(np.linalg.norm(engine.project().vectors[rows] - expected, axis=1).max())
    assert worst <= TOLERANCE, (
        f"{case.name}: vectors differ by {worst:.1e} from the definition: nothing to time"
    )
    return worst


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return vector / np.linalg.norm(vector)
