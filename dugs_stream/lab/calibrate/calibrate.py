"""`dugs calibrate`: τ, k and layers held against a sample of the user's own data.

First the thresholds, which are all one needs to begin; then other k and other layers, which project some of the records again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dugs_stream.config import Settings
from dugs_stream.core.thresholds import ManyThresholds
from dugs_stream.errors import ConfigurationError, Problem
from dugs_stream.lab.calibrate.closest import ClosestCalls, closest_calls
from dugs_stream.lab.calibrate.curve import GRID, Curve, Point, knee
from dugs_stream.lab.calibrate.report import (
    CurvePoint,
    Dimension,
    Gradient,
    Layers,
    Proposal,
    Report,
    Sampled,
)
from dugs_stream.lab.calibrate.separation import separation
from dugs_stream.lab.calibrate.variants import ExactCosines, Variants
from dugs_stream.lab.listener import Listener
from dugs_stream.lab.peak_memory import peak_memory_bytes
from dugs_stream.lab.samples import ProjectedSample

LayerChoice = int | tuple[str, ...]
"""The last so many, or globs, as `gradient.layers` takes them."""

DIMENSIONS = (256, 1024, 4096)
LAYER_CHOICES: tuple[LayerChoice, ...] = (1, 2, 3, ("*",))

_DEFAULT_SHARES = (0.01, 0.05, 0.1, 0.25, 0.5)
_CLOSEST = 6
_EXACT_RECORDS = 32
"""496 pairs: their root mean square is sure to some percent, and their gradients fit into memory for most layers."""
_DIMENSION_RECORDS = 64
_LAYER_RECORDS = 160
_LEAST_FOR_PAIRS = 3
_NEAR_ENOUGH = 0.2
"""A proposal that misses its wish by more than this share of it says so."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is wished for.

    accept      shares of the records that are to be unique
    keep        numbers of uniques
    thresholds  τ to look at
    of          the number of records that shares and numbers are about; None: those of the sample
    dimensions  k to compare; empty for none
    layers      choices of layers to compare; empty for none

    The configuration file gets the first wish; without one the knee, and of a flat curve the τ that is configured.
    """

    accept: tuple[float, ...] = ()
    keep: tuple[int, ...] = ()
    thresholds: tuple[float, ...] = ()
    of: int | None = None
    dimensions: tuple[int, ...] = DIMENSIONS
    layers: tuple[LayerChoice, ...] = LAYER_CHOICES

    @property
    def has_wish(self) -> bool:
        """Whether anything is wished for."""
        return bool(self.accept or self.keep or self.thresholds)


@dataclass(frozen=True, slots=True)
class Calibration:
    """The report, and the close calls with their rows for pictures."""

    report: Report
    calls: ClosestCalls


def calibrate(
    settings: Settings, sample: ProjectedSample, plan: Plan, listener: Listener, started: float
) -> Calibration:
    """Hold settings against a sample whose engine is still open. An interrupt leaves other k and layers out.

    started  of `time.perf_counter`, for the report

    Raises ConfigurationError for a number of uniques beyond the sample.
    """
    _require_possible(plan, sample)
    listener.stage(f"Judging {len(sample):,} records at {len(GRID)} thresholds")
    curve, remarks = Curve(ManyThresholds(sample.vectors)), list(sample.remarks)
    points = curve.over(GRID, listener.progress)
    bend = knee(points)
    proposals = _proposals(curve, sample, plan, bend, settings.selection.threshold)
    chosen = proposals[0] if plan.has_wish else proposals[-1]
    calls = closest_calls(sample, chosen.threshold, _CLOSEST)
    floor = noise_floor(len(sample), settings.gradient.dimension)
    remarks += _remarks(points, sample, chosen, floor)
    study = _Study(settings, sample, plan, listener)
    dimensions, layers = study.dimensions(), study.layers()
    report = Report(
        sample=_sampled(sample),
        gradient=_gradient(settings, sample, floor),
        configured=_on(curve.at(settings.selection.threshold)),
        curve=[_on(each) for each in points],
        knee=bend,
        proposals=proposals,
        chosen=chosen,
        closest=calls.closest,
        dimensions=dimensions,
        layers=layers,
        rate=sample.rate,
        projecting_seconds=sample.seconds,
        remarks=remarks + study.remarks,
        interrupted=sample.interrupted or study.interrupted,
        seconds=time.perf_counter() - started,
        peak_memory_bytes=peak_memory_bytes(),
    )
    return Calibration(report, calls)


def noise_floor(records: int, dimension: int) -> float:
    """√(2·ln N / k): about the largest of N cosines between unrelated directions in k dimensions."""
    return math.sqrt(2 * math.log(max(2, records)) / dimension)


def _require_possible(plan: Plan, sample: ProjectedSample) -> None:
    of = plan.of or len(sample)
    problems = [
        Problem(
            "--keep",
            f"{each:,} uniques of {of:,} records cannot be.",
            "Ask for fewer, take more records (--records), or say of how many records they are (--of).",
        )
        for each in plan.keep
        if each > of
    ]
    if problems:
        raise ConfigurationError(problems)


@dataclass(frozen=True, slots=True)
class _Wish:
    """A number of uniques; None: a τ of which no number is asked."""

    name: str
    uniques: float | None
    point: Point


def _proposals(
    curve: Curve, sample: ProjectedSample, plan: Plan, bend: float | None, configured: float
) -> list[Proposal]:
    """The wishes first, in the order in which they were made; without any the usual shares, and last what to choose."""
    of = plan.of or len(sample)

    def number(name: str, uniques: float) -> _Wish:
        return _Wish(name, uniques, curve.nearest_to(uniques, of))

    shares = plan.accept if plan.has_wish else [each for each in _DEFAULT_SHARES if each * of >= 1]
    found = [number(f"accept {each:.3g}", each * of) for each in shares]
    found += [number(f"keep {each}", each) for each in plan.keep]
    found += [_Wish(f"τ = {each:g}", None, curve.at(each)) for each in plan.thresholds]
    if bend is not None:
        found.append(_Wish("knee of the curve", None, curve.at(bend)))
    elif not plan.has_wish:
        found.append(_Wish("as configured: no knee", None, curve.at(configured)))
    return [_proposal(each, of, sample) for each in found]


def _proposal(wish: _Wish, of: int, sample: ProjectedSample) -> Proposal:
    labels, expected = sample.labels.of[wish.point.rows], wish.point.expected(of)
    return Proposal(
        wish=wish.name,
        classes=None if sample.labels.source is None else len(set(labels[labels >= 0].tolist())),
        of=of,
        expected=round(expected, 1),
        is_met=wish.uniques is None or abs(expected - wish.uniques) <= max(1.0, _NEAR_ENOUGH * wish.uniques),
        **_on(wish.point).model_dump(),
    )


def _remarks(points: Sequence[Point], sample: ProjectedSample, chosen: Proposal, floor: float) -> list[str]:
    """What the reader should know of the sample before trusting the numbers."""
    n, most, least = len(sample), points[-1].uniques, points[0].uniques
    told = next((point.uniques for point in points if point.threshold >= max(floor, _UNRELATED)), most)
    said = []
    if chosen.of > n:
        said.append(
            f"numbers for {chosen.of:,} records are estimates: the growth of the list within the sample, drawn on"
        )
    if n < _FEW_RECORDS:
        said.append(f"{n:,} records are few: shares of another sample of this size may be quite different")
    if most == 1 < n:
        said.append("all records have the same gradient, so every threshold keeps one of them")
    elif told == n > 1:
        said.append(
            "no record is similar to another, so every threshold above the noise floor keeps them all"
        )
    if not chosen.is_met:
        said.append(f"no threshold meets '{chosen.wish}' on this sample: from {least:,} to {most:,} are kept")
    if 0 < chosen.threshold < floor:
        said.append(
            f"τ = {chosen.threshold:.4g} lies below the noise floor of {floor:.3f}: unrelated gradients reach it by compression "
            "alone; a larger gradient.dimension lowers the floor"
        )
    if sample.labels.source is None:
        said.append("no record has a label, so neither classes nor the separation of layers are known")
    if len(sample.labels.names) == 1:
        said.append(f"all labels are {sample.labels.names[0]!r}, so layers cannot be told apart by them")
    if sample.labels.source == "predicted":
        said.append("labels are the model's own predictions: classes and separation are those of the model")
    return said


_FEW_RECORDS = 200
_UNRELATED = 0.1
"""Cosines of unrelated gradients stay below this, or below the noise floor."""


class _Study:
    """Other k and other layers on some of the records; an interrupt ends it."""

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
        exact = self._exact(rows)
        variants, found = Variants(self._settings, self._sample.engine, records), list[Dimension]()
        choices = sorted({*self._plan.dimensions, self._settings.gradient.dimension})
        for done, dimension in enumerate(choices):
            self._listener.progress(done, len(choices))
            if self._is_stopped(f"comparing k: {done} of {len(choices)} were tried"):
                break
            variant = variants.at(dimension=dimension)
            if variant.failed is not None:
                self.remarks.append(f"k = {dimension} was not measured: {variant.failed}")
                continue
            errors = None if exact is None else _errors(variant.vectors[: len(exact)], exact)
            found.append(
                Dimension(
                    dimension=dimension,
                    error=None if errors is None else float(np.sqrt(np.mean(errors**2))),
                    worst=None if errors is None else float(np.abs(errors).max()),
                    pairs=0 if errors is None else len(errors),
                    noise_floor=noise_floor(len(self._sample), dimension),
                    rate=variant.rate,
                    bytes_a_unique=4 * dimension,
                )
            )
        return found

    def _exact(self, rows: Sequence[int]) -> NDArray[np.float64] | None:
        some = [self._sample.records[row] for row in rows[:_EXACT_RECORDS]]
        exact = ExactCosines(self._sample.engine, some)
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
        variants = Variants(self._settings, self._sample.engine, [self._sample.records[row] for row in rows])
        found = [self._configured(rows)]
        choices = [each for each in self._plan.layers if _written(each) != found[0].choice]
        for done, choice in enumerate(choices):
            self._listener.progress(done, len(choices))
            if self._is_stopped(f"comparing layers: {done} of {len(choices)} were tried"):
                break
            variant = variants.at(choice)
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

    def _configured(self, rows: Sequence[int]) -> Layers:
        """The choice in force, whose vectors are there."""
        setting, found = self._settings.gradient.layers, self._sample.engine.projector.found
        chosen = () if found is None else found.layers
        return Layers(
            choice=_written(setting.last or tuple(setting.names or ())),
            layers=[layer.name for layer in chosen],
            parameters=sum(layer.parameters for layer in chosen),
            separation=separation(self._sample.vectors[rows], self._sample.labels.of[rows]),
            rate=self._sample.rate,
            is_configured=True,
            failed=None,
        )

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


def _errors(vectors: NDArray[np.float32], exact: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of the cosines of all pairs."""
    wide = vectors.astype(np.float64)
    return (wide @ wide.T - exact)[np.triu_indices(len(exact), 1)]


def _written(choice: LayerChoice) -> str:
    """As `gradient.layers` takes it."""
    return (
        f"{{last: {choice}}}" if isinstance(choice, int) else f"{{names: [{', '.join(map(repr, choice))}]}}"
    )


def _on(point: Point) -> CurvePoint:
    return CurvePoint(
        threshold=point.threshold,
        uniques=point.uniques,
        share=point.share,
        late_share=point.late_share,
    )


def _sampled(sample: ProjectedSample) -> Sampled:
    return Sampled(
        kind=sample.drawn.kind,
        place=sample.drawn.place,
        records=len(sample),
        drawn=len(sample.drawn.records),
        there=sample.drawn.there,
        rejected=sum(sample.rejected.values()),
        no_gradient=sample.no_gradient,
        labels=sample.labels.source,
        classes=len(sample.labels.names) or None,
    )


def _gradient(settings: Settings, sample: ProjectedSample, floor: float) -> Gradient:
    identity = sample.engine.identity
    return Gradient(
        model=identity.name,
        fingerprint=identity.fingerprint,
        layers=list(sample.engine.projector.layer_names),
        loss=settings.gradient.loss,
        dimension=settings.gradient.dimension,
        noise_floor=floor,
    )
