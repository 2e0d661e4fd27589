"""Comparison of other k and other layers on some of the records of a sample."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from dugs_stream.config import Settings
from dugs_stream.lab.calibrate.plan import LayerChoice, Plan
from dugs_stream.lab.calibrate.report import Dimension, Layers
from dugs_stream.lab.calibrate.separation import separation
from dugs_stream.lab.calibrate.variants import ExactCosines, Variant, Variants
from dugs_stream.lab.listener import Listener
from dugs_stream.lab.samples import ProjectedSample
from dugs_stream.pipeline.decode import BatchAbandonedError

_Choice = TypeVar("_Choice")

_EXACT_RECORDS = 32
"""496 pairs: their root mean square is sure to some percent, and their gradients fit into memory for most layers."""
_DIMENSION_RECORDS = 64
_LAYER_RECORDS = 128
_LEAST_FOR_PAIRS = 3


def noise_floor(records: int, dimension: int) -> float:
    """√(2·ln N / k): about the largest of N cosines between unrelated directions in k dimensions."""
    return math.sqrt(2 * math.log(max(2, records)) / dimension)


class Comparison:
    """Projects the records again under each choice; an interrupt ends it.

    remarks      what could not be measured
    interrupted  what an interrupt cut short
    """

    def __init__(self, settings: Settings, sample: ProjectedSample, plan: Plan, listener: Listener) -> None:
        self._settings = settings
        self._sample = sample
        self._plan = plan
        self._listener = listener
        self.remarks: list[str] = []
        self.interrupted: str | None = None

    def dimensions(self) -> list[Dimension]:
        """Each k against the exact cosines of the same gradients."""
        if not self._plan.dimensions or self._is_stopped("comparing k"):
            return []
        rows = self._spread(_DIMENSION_RECORDS)
        records = [self._sample.records[row] for row in rows]
        self._listener.stage(f"Comparing k on {len(records)} records")
        try:
            exact = self._exact(rows)
        except BatchAbandonedError:
            self._is_stopped("comparing k")
            return []
        variants = Variants(self._settings, self._sample.engine, records, self._listener.wants_stop)
        found = list[Dimension]()
        choices = sorted({*self._plan.dimensions, self._settings.gradient.dimension})
        tried = self._tried("comparing k", choices, lambda choice: variants.at(dimension=choice))
        for dimension, variant in tried:
            if variant.failed is not None:
                self.remarks.append(f"k = {dimension} was not measured: {variant.failed}")
                continue
            error = None if exact is None else error_of(variant.vectors[: len(exact)], exact)
            found.append(
                Dimension(
                    dimension=dimension,
                    error=None if error is None else error.root_mean_square,
                    error_low=None if error is None else error.low,
                    error_high=None if error is None else error.high,
                    worst=None if error is None else error.worst,
                    pairs=0 if error is None else error.pairs,
                    noise_floor=noise_floor(len(self._sample), dimension),
                    rate=variant.rate,
                    bytes_a_unique=4 * dimension,
                )
            )
        return found

    def _exact(self, rows: Sequence[int]) -> NDArray[np.float64] | None:
        some = [self._sample.records[row] for row in rows[:_EXACT_RECORDS]]
        exact = ExactCosines(self._sample.engine, some, self._listener.wants_stop)
        if exact.most < _LEAST_FOR_PAIRS:
            self.remarks.append(
                "the error of the sketch was not measured: whole gradients of these layers take too much memory"
                if len(some) >= _LEAST_FOR_PAIRS
                else "the error of the sketch was not measured: there are too few records"
            )
            return None
        found = exact.of_first(exact.most)
        if found is None:
            self.remarks.append("the error of the sketch was not measured: a whole gradient is zero")
        return found

    def layers(self) -> list[Layers]:
        """Each choice of layers by how well its cosines tell the labels apart."""
        if not self._plan.layers or self._is_stopped("comparing layers"):
            return []
        rows = self._spread(_LAYER_RECORDS)
        labels = self._sample.labels.of[rows]
        self._listener.stage(f"Comparing layers on {len(rows)} records")
        records = [self._sample.records[row] for row in rows]
        variants = Variants(self._settings, self._sample.engine, records, self._listener.wants_stop)
        found, in_force = list[Layers](), self._in_force
        choices = [None, *(each for each in self._plan.layers if _written(each) != in_force)]
        for choice, variant in self._tried("comparing layers", choices, variants.at):
            if choice is None:
                found.append(self._configured(rows, variant.rate))
                continue
            found.append(
                Layers(
                    choice=_written(choice),
                    layers=list(variant.layers),
                    parameters=variant.parameters,
                    separation=None if variant.failed is not None else separation(variant.vectors, labels),
                    rate=None if variant.failed is not None else variant.rate,
                    is_configured=False,
                    failed=variant.failed,
                )
            )
        return found

    def _configured(self, rows: Sequence[int], rate: float) -> Layers:
        """The choice in force, whose vectors are there; its rate is measured as those of the others."""
        found = self._sample.engine.projector.found
        chosen = () if found is None else found.layers
        return Layers(
            choice=self._in_force,
            layers=[layer.name for layer in chosen],
            parameters=sum(layer.parameters for layer in chosen),
            separation=separation(self._sample.vectors[rows], self._sample.labels.of[rows]),
            rate=rate,
            is_configured=True,
            failed=None,
        )

    @property
    def _in_force(self) -> str:
        """The choice of the settings."""
        setting = self._settings.gradient.layers
        return _written(setting.last or tuple(setting.names or ()))

    def _tried(
        self, doing: str, choices: Sequence[_Choice], attempt: Callable[[_Choice], Variant]
    ) -> Iterator[tuple[_Choice, Variant]]:
        """Each choice and what came of it; an interrupt leaves out the one in work, and those after it."""
        for done, choice in enumerate(choices):
            self._listener.progress(done, len(choices))
            so_far = f"{doing}: {done} of {len(choices)} were tried"
            if self._is_stopped(so_far):
                return
            try:
                variant = attempt(choice)
            except BatchAbandonedError:
                self._is_stopped(so_far)
                return
            yield choice, variant

    def _spread(self, most: int) -> list[int]:
        """Rows from all over the sample: neighbours in files sorted by class are of one class."""
        n = len(self._sample)
        order = np.random.default_rng(0).permutation(n)[:most]
        return [int(row) for row in order]

    def _is_stopped(self, doing: str) -> bool:
        if self._sample.interrupted is None and not self._listener.wants_stop():
            return False
        self.interrupted = self.interrupted or doing
        return True


class CosineError(NamedTuple):
    """Of the cosines of all pairs of m records: root mean square with its 95 % interval over records, the largest, and how many."""

    root_mean_square: float
    low: float
    high: float
    worst: float
    pairs: int


def error_of(vectors: NDArray[np.float32], exact: NDArray[np.float64]) -> CosineError:
    """Sketched unit rows (m, k) against the exact cosines (m, m), m ≥ 3.

    The interval is by the jackknife over records, in the mean square, by Student's t of m − 1 degrees: pairs that share a record, or
    records that are alike, err together, so 105 pairs of 15 records are not 105 measurements.
    """
    from scipy.stats import t  # noqa: PLC0415  it comes with scikit-learn, an optional extra

    wide, m = vectors.astype(np.float64), len(exact)
    squares = (wide @ wide.T - exact) ** 2
    np.fill_diagonal(squares, 0.0)
    total = float(squares.sum())
    mean = total / (m * (m - 1))
    without = (total - 2 * squares.sum(axis=1)) / ((m - 1) * (m - 2))
    half = float(t.ppf(0.975, m - 1)) * float((m - 1) / m * np.square(without - without.mean()).sum()) ** 0.5
    low, middle, high = np.sqrt([max(0.0, mean - half), mean, mean + half]).tolist()
    return CosineError(middle, low, high, float(np.sqrt(squares.max())), m * (m - 1) // 2)


def _written(choice: LayerChoice) -> str:
    """As `gradient.layers` takes it."""
    return (
        f"{{last: {choice}}}" if isinstance(choice, int) else f"{{names: [{', '.join(map(repr, choice))}]}}"
    )
