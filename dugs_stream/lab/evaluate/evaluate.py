"""`dugs evaluate`: every selection on every kind of stream, at equal size."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dugs_stream.errors import ConfigurationError, Problem
from dugs_stream.lab.evaluate.candidates import Candidate, candidates_of
from dugs_stream.lab.evaluate.measures import (
    LinearProbe,
    classes_covered,
    interval_of,
    linear_probe,
    marked_among,
    marked_found,
)
from dugs_stream.lab.evaluate.plan import Plan
from dugs_stream.lab.evaluate.report import Measured, MeasureName, Report, Setup, Source
from dugs_stream.lab.evaluate.selections import GreedyUniques, Selection
from dugs_stream.lab.evaluate.streams import (
    AS_IT_IS,
    WRONG_LABELS,
    Scene,
    Stream,
    pool_and_held_out,
    scenes_of,
)
from dugs_stream.lab.evaluate.views import Kind, Views, require_finite
from dugs_stream.lab.listener import Listener


@dataclass(frozen=True, slots=True)
class Viewed:
    """Records seen by the model, and what is told of them.

    name_of  the name of a class
    """

    place: str
    views: Views
    name_of: Callable[[int], str]
    dimension: int
    remarks: tuple[str, ...] = ()
    interrupted: str | None = None


@dataclass(slots=True)
class _Values:
    """Of one measure at one size: a value for each draw, and how many were picked."""

    values: list[float] = field(default_factory=list)
    picks: list[int] = field(default_factory=list)


_Key = tuple[MeasureName, int]


def evaluate(viewed: Viewed, plan: Plan, listener: Listener) -> Report:
    """Measure each selection. An interrupt leaves those that are done. Raises ModelError if no gradient has a direction."""
    started = time.perf_counter()
    views = viewed.views
    require_finite(views)
    _, held_out = pool_and_held_out(views)
    scenes, probe = scenes_of(views, plan, _rare_classes(viewed, plan)), linear_probe(views, held_out)
    candidates = list(candidates_of(views))
    measures: list[Measured] = []
    interrupted, done = viewed.interrupted, list[str]()
    listener.stage(f"Picking by {len(candidates)} selections")
    bench = _Bench(views, scenes, probe, plan)
    for place, candidate in enumerate(candidates):
        if interrupted is None and listener.wants_stop():
            interrupted = f"measuring the selections: {place} of {len(candidates)} were measured"
        if interrupted is not None and interrupted != viewed.interrupted:
            break
        measures += bench.measured(candidate)
        done.append(candidate.name)
        listener.progress(place + 1, len(candidates))
    return _report(
        viewed, plan, measures, done, [*viewed.remarks, *_remarks(views, scenes, plan)], interrupted, started
    )


def _rare_classes(viewed: Viewed, plan: Plan) -> NDArray[np.int64]:
    """The numbers of the classes that the plan names. Raises ConfigurationError for one that no record has."""
    numbers = {viewed.name_of(int(each)): int(each) for each in np.unique(viewed.views.labels) if each >= 0}
    unknown = [each for each in plan.rare if each not in numbers]
    if unknown and viewed.views.has_labels:
        problem = Problem(
            "--rare",
            f"found {unknown[0]!r}, which no record has as its class.",
            f"The classes are {', '.join(list(numbers)[:20])}.",
        )
        raise ConfigurationError([problem])
    return np.array([numbers[each] for each in plan.rare if each in numbers], dtype=np.int64)


class _Bench:
    """What every selection is measured on."""

    def __init__(self, views: Views, scenes: list[Scene], probe: LinearProbe | None, plan: Plan) -> None:
        self._views, self._scenes, self._probe, self._plan = views, scenes, probe, plan

    def measured(self, candidate: Candidate) -> Iterator[Measured]:
        """The candidate's rows, with those that have no value."""
        selection = None if candidate.make is None else candidate.make()
        for scene in self._scenes:
            missing = candidate.missing or scene.missing
            for name, own in self._names(scene):
                if missing or own:
                    yield _without_value(name, scene, candidate, self._plan, missing or own)
            if selection is None or missing is not None:
                continue
            thresholds: dict[int, list[float]] = {}
            if isinstance(selection, GreedyUniques):
                selection.thresholds = thresholds
            for (name, size), kept in self._collected(selection, scene, candidate.repeats).items():
                yield _with_values(name, scene, candidate, size, kept, thresholds.get(size))

    def _collected(self, selection: Selection, scene: Scene, repeats: int) -> dict[_Key, _Values]:
        """By measure and size, a value for each stream: the mean of repeated picks."""
        found: dict[_Key, _Values] = {}
        for draw, stream in enumerate(scene.streams):
            picker = selection(stream.rows, np.random.default_rng([self._plan.seed, draw]))
            for size in self._plan.sizes(len(stream.rows)):
                picks = [picker(size) for _ in range(repeats)]
                for name, values in self._values(scene, stream, size, picks):
                    kept = found.setdefault((name, size), _Values())
                    kept.values.append(float(np.mean(values)))
                    kept.picks.append(len(picks[0]))
        return found

    def _values(
        self, scene: Scene, stream: Stream, size: int, picks: list[NDArray[np.int64]]
    ) -> Iterator[tuple[MeasureName, list[float]]]:
        """Of each measure that can be had, a value a pick."""
        for name, missing in self._names(scene):
            if missing is not None:
                continue
            if name == "classes covered":
                values = [classes_covered(self._views, stream, each) for each in picks]
            elif name == "rare records found":
                values = [marked_found(stream, each) for each in picks]
            elif name == "wrong labels picked":
                values = [marked_among(stream, each) for each in picks]
            elif self._probe is None or size < self._plan.sizes(len(stream.rows))[-1]:
                continue  # training takes longer than all else here
            else:
                values = [self._probe.accuracy(stream.rows[each]) for each in picks[:1]]
            yield name, values

    def _names(self, scene: Scene) -> list[tuple[MeasureName, str | None]]:
        """The measures of a kind of streams, each with why it cannot be had."""
        if scene.name == WRONG_LABELS:
            return [("wrong labels picked", scene.missing)]
        if scene.name != AS_IT_IS:
            return [("rare records found", scene.missing)]
        labels = None if self._views.has_labels else "it needs labels"
        embeddings = None if self._probe is not None else "it needs embeddings, and records to hold out"
        return [("classes covered", labels), ("accuracy", labels or embeddings)]


def _with_values(
    name: MeasureName,
    scene: Scene,
    candidate: Candidate,
    size: int,
    kept: _Values,
    thresholds: list[float] | None,
) -> Measured:
    mean, low, high = interval_of(kept.values)
    return Measured(
        measure=name,
        stream=scene.name,
        selection=candidate.name,
        size=size,
        mean=mean,
        low=low,
        high=high,
        draws=len(kept.values),
        picks=float(np.mean(kept.picks)),
        threshold=float(np.mean(thresholds)) if thresholds else None,
        note=None,
    )


def _without_value(
    name: MeasureName, scene: Scene, candidate: Candidate, plan: Plan, note: str | None
) -> Measured:
    return Measured(
        measure=name,
        stream=scene.name,
        selection=candidate.name,
        size=plan.size,
        mean=None,
        low=None,
        high=None,
        draws=0,
        picks=None,
        threshold=None,
        note=note,
    )


def _remarks(views: Views, scenes: list[Scene], plan: Plan) -> Iterator[str]:
    """What the reader should know before the figures."""
    yield from views.remarks
    if not views.has_labels:
        yield "records have no labels, so that only what needs none is told"
    shortest = min((len(each.rows) for scene in scenes for each in scene.streams), default=0)
    if shortest < 2 * plan.size:
        yield (
            f"a stream has {shortest:,} records, fewer than twice the size {plan.size:,}: it is picked from at "
            f"{plan.sizes(shortest)[-1]:,}"
        )
    for gradient, vectors in views.gradients.items():
        silent = int((~vectors.any(axis=1)).sum())
        if silent:
            yield f"{gradient}: {silent:,} rows have a gradient without a direction and are never picked"


def _report(
    viewed: Viewed,
    plan: Plan,
    measures: list[Measured],
    selections: list[str],
    remarks: list[str],
    interrupted: str | None,
    started: float,
) -> Report:
    views = viewed.views
    pool, held_out = pool_and_held_out(views)
    classes: list[int] = np.unique(views.labels[views.rows(Kind.RECORD)]).tolist() if views.has_labels else []
    per_unit = 1 if sys.platform == "darwin" else 1024
    return Report(
        source=Source(
            place=viewed.place,
            records=len(pool) + len(held_out),
            held_out=len(held_out),
            classes=[viewed.name_of(each) for each in classes],
        ),
        setup=Setup(
            size=plan.size,
            sizes=list(plan.sizes(len(pool))),
            draws=plan.draws,
            seed=plan.seed,
            rare=list(plan.rare),
            rare_shares=list(plan.rare_shares),
            wrong_share=plan.wrong_share,
            dimension=viewed.dimension,
        ),
        selections=selections,
        measures=measures,
        remarks=remarks,
        interrupted=interrupted,
        seconds=time.perf_counter() - started,
        peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * per_unit,
    )
