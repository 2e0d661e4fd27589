"""`dugs calibrate`: τ, k and layers held against a sample of the user's own data.

First the thresholds, which are all one needs to begin; then other k and other layers, which project some of the records again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from dugs_stream.config import Settings
from dugs_stream.core.thresholds import ManyThresholds
from dugs_stream.errors import ConfigurationError, Problem
from dugs_stream.lab.calibrate.closest import ClosestCalls, closest_calls, decisions_at, new_and_good
from dugs_stream.lab.calibrate.comparison import Comparison, noise_floor
from dugs_stream.lab.calibrate.curve import GRID, UNRELATED, Curve, Landmarks, Point, knee, plateau
from dugs_stream.lab.calibrate.plan import Plan
from dugs_stream.lab.calibrate.report import (
    CurvePoint,
    Gradient,
    Proposal,
    Report,
    Sampled,
    Value,
)
from dugs_stream.lab.listener import Listener
from dugs_stream.lab.peak_memory import peak_memory_bytes
from dugs_stream.lab.samples import ProjectedSample
from dugs_stream.records import Decision

_DEFAULT_SHARES = (0.01, 0.05, 0.1, 0.25, 0.5)
_CLOSEST = 6
_NEAR_ENOUGH = 0.2
"""A proposal that misses its wish by more than this share of it says so."""


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
    floor = noise_floor(len(sample), settings.gradient.dimension)
    flat = plateau(points, floor)
    proposals = _proposals(curve, sample, plan, Landmarks(flat, bend, floor), settings.selection.threshold)
    chosen = proposals[0] if plan.has_wish else proposals[-1]
    decisions = decisions_at(sample, chosen.threshold)
    calls = closest_calls(sample, decisions, _CLOSEST)
    remarks += _remarks(points, sample, chosen, floor)
    study = Comparison(settings, sample, plan, listener)
    dimensions, layers = study.dimensions(), study.layers()
    report = Report(
        sample=_sampled(sample),
        gradient=_gradient(settings, sample, floor),
        configured=_on(curve.at(settings.selection.threshold)),
        curve=[_on(each) for each in points],
        knee=bend,
        plateau=flat,
        proposals=proposals,
        chosen=chosen,
        closest=calls.closest,
        dimensions=dimensions,
        layers=layers,
        value=_value(settings, sample, decisions),
        rate=sample.rate,
        projecting_seconds=sample.seconds,
        remarks=remarks + study.remarks,
        interrupted=sample.interrupted or study.interrupted,
        seconds=time.perf_counter() - started,
        peak_memory_bytes=peak_memory_bytes(),
    )
    return Calibration(report, calls)


def _value(settings: Settings, sample: ProjectedSample, decisions: Sequence[Decision]) -> Value | None:
    """The second axis, if the engine knows a target."""
    target = sample.engine.judge.target
    if target is None:
        return None
    named = ", ".join(settings.value.target or ())
    return new_and_good(decisions, target.mean.values(sample.vectors), target, named)


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
    curve: Curve, sample: ProjectedSample, plan: Plan, landmarks: Landmarks, configured: float
) -> list[Proposal]:
    """The wishes first, in the order in which they were made; without any the usual shares, and last what to choose."""
    of = plan.of or len(sample)

    def number(name: str, uniques: float) -> _Wish:
        return _Wish(name, uniques, curve.nearest_to(uniques, of))

    shares = plan.accept if plan.has_wish else [each for each in _DEFAULT_SHARES if each * of >= 1]
    found = [number(f"accept {each:.3g}", each * of) for each in shares]
    found += [number(f"keep {each}", each) for each in plan.keep]
    found += [_Wish(f"τ = {each:g}", None, curve.at(each)) for each in plan.thresholds]
    found += [_Wish(f"{name} of the curve", None, curve.at(each)) for name, each in landmarks.by_use]
    if not plan.has_wish and not landmarks.are_of_use:
        found.append(_Wish("as configured: no knee above the noise", None, curve.at(configured)))
    return [_proposal(curve, each, of, sample) for each in found]


def _proposal(curve: Curve, wish: _Wish, of: int, sample: ProjectedSample) -> Proposal:
    labels, expected = sample.labels.of[wish.point.rows], curve.expected(wish.point.threshold, of)
    low, high = curve.among_others(wish.point.threshold, of) or (None, None)
    return Proposal(
        wish=wish.name,
        classes=None if sample.labels.source is None else len(set(labels[labels >= 0].tolist())),
        of=of,
        expected=round(expected, 1),
        low=None if low is None else round(low, 1),
        high=None if high is None else round(high, 1),
        is_met=wish.uniques is None or abs(expected - wish.uniques) <= max(1.0, _NEAR_ENOUGH * wish.uniques),
        **_on(wish.point).model_dump(),
    )


def _remarks(points: Sequence[Point], sample: ProjectedSample, chosen: Proposal, floor: float) -> list[str]:
    """What the reader should know of the sample before trusting the numbers."""
    n, most = len(sample), points[-1].uniques
    told = next((point.uniques for point in points if point.threshold >= max(floor, UNRELATED)), most)
    said = []
    if chosen.of > n:
        said.append(
            f"numbers for {chosen.of:,} records are estimates: they extrapolate the growth of the list within the sample"
        )
    if n < _FEW_RECORDS:
        said.append(
            f"{n:,} record{' is' if n == 1 else 's are'} few: shares of another sample of this size may be quite different"
        )
    if most == 1 < n:
        said.append("all records have the same gradient, so every threshold keeps one of them")
    elif told == n > 1:
        said.append(
            "no record is similar to another, so every threshold above the noise floor keeps them all"
        )
    if not chosen.is_met:
        said.append(_unmet(points, chosen))
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


def _unmet(points: Sequence[Point], chosen: Proposal) -> str:
    """Of the records that the wish is about."""
    least, most = (round(point.expected(chosen.of)) for point in (points[0], points[-1]))
    return f"no threshold meets '{chosen.wish}': of {chosen.of:,} records from {least:,} to {most:,} are kept"


_FEW_RECORDS = 200


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
        loss=settings.gradient.loss_title,
        dimension=settings.gradient.dimension,
        noise_floor=floor,
    )
