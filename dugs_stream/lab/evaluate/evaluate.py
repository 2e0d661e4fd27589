"""`dugs evaluate`: every selection on every kind of stream, at equal size."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dugs_stream.errors import ConfigurationError, Problem
from dugs_stream.lab.evaluate.bench import Bench
from dugs_stream.lab.evaluate.candidates import RANDOM, Candidate, candidates_of
from dugs_stream.lab.evaluate.duplicates import copies_caught, vectors_of
from dugs_stream.lab.evaluate.measures import (
    Learner,
    linear_probe,
)
from dugs_stream.lab.evaluate.plan import Plan
from dugs_stream.lab.evaluate.report import Copies, Measured, Report, Setup, Source, StreamKind, Suspects
from dugs_stream.lab.evaluate.streams import (
    Scene,
    pool_and_held_out,
    rare_name,
    scenes_of,
    shortest_of,
)
from dugs_stream.lab.evaluate.table import counted
from dugs_stream.lab.evaluate.views import Kind, Views, require_finite
from dugs_stream.lab.listener import Listener, patience

_FEW = 5
"""Rare records of a stream, below which their share found moves in great steps."""


@dataclass(frozen=True, slots=True)
class Viewed:
    """Records seen by the model, and what is told of them.

    name_of    the name of a class
    threshold  τ of the settings, and configured_gradient what it was set for
    learner    tells the accuracy after training on rows; None: a logistic regression on embeddings
    """

    place: str
    views: Views
    name_of: Callable[[int], str]
    dimension: int
    threshold: float
    configured_gradient: str
    remarks: tuple[str, ...] = ()
    interrupted: str | None = None
    learner: Learner | None = None


def evaluate(
    viewed: Viewed, plan: Plan, listener: Listener, clock: Callable[[], float] = time.perf_counter
) -> Report:
    """Measure each selection. An interrupt leaves those that are done; of records whose viewing was interrupted what is quick is told.

    Raises ModelError if no gradient has a direction.
    """
    started = time.perf_counter()
    views = viewed.views
    require_finite(views)
    pool, held_out = pool_and_held_out(views)
    scenes = scenes_of(views, plan, _rare_classes(viewed, plan))
    learner = viewed.learner or linear_probe(views, held_out)
    candidates = list(candidates_of(views))
    wants_stop = listener.wants_stop
    if viewed.interrupted is not None:  # the wish to stop was heard: what is quick is still told
        wants_stop = patience(clock)
        candidates = _foremost_first(candidates, f"gradient: {viewed.configured_gradient}")
    listener.stage(f"Picking by {len(candidates)} selections")
    bench = Bench(views, scenes, learner, plan, wants_stop)
    measures: dict[str, list[Measured]] = {}
    for candidate in candidates:
        measured = bench.measured(candidate)
        if measured is None:
            break
        measures[candidate.name] = measured
        listener.progress(len(measures), len(candidates))
    cuts = [] if viewed.interrupted is None else [viewed.interrupted]
    copies: list[Copies] = []
    if len(measures) < len(candidates):
        cuts.append(f"measuring the selections: {len(measures)} of {len(candidates)} were measured")
    else:
        listener.stage("Looking for copies")
        rules = len(vectors_of(views))
        for tried, each in enumerate(copies_caught(views, pool, viewed.threshold, plan.seed), start=1):
            copies += each
            if wants_stop() and tried < rules:
                cuts.append(f"looking for copies: {tried} of {rules} rules were tried")
                break
    remarks = [*viewed.remarks, *_remarks(views, scenes, plan)]
    in_order = [each.name for each in candidates_of(views) if each.name in measures]
    rows = [row for name in in_order for row in measures[name]]
    found = Found(
        bench.sizes, len(scenes[0].streams), _kinds_of(scenes), rows, in_order, copies, bench.suspects()
    )
    return _report(viewed, plan, found, remarks, ", and ".join(cuts) or None, started)


def _foremost_first(candidates: list[Candidate], configured: str) -> list[Candidate]:
    """In the order in which they are missed: uniques as configured, then what these are compared with."""
    foremost = [configured, "embedding, same rule", RANDOM]
    return sorted(
        candidates, key=lambda each: foremost.index(each.name) if each.name in foremost else len(foremost)
    )


class Found(NamedTuple):
    """What the report is made of."""

    sizes: tuple[int, ...]
    draws: int
    streams: list[StreamKind]
    measures: list[Measured]
    selections: list[str]
    copies: list[Copies]
    suspects: Suspects | None


def _kinds_of(scenes: list[Scene]) -> list[StreamKind]:
    """How many records the streams of each kind came to have."""
    return [
        StreamKind(
            name=scene.name,
            records=float(np.mean([len(each.rows) for each in scene.streams])),
            marked=float(np.mean([each.marked.sum() for each in scene.streams])),
        )
        for scene in scenes
        if scene.streams
    ]


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


def _remarks(views: Views, scenes: list[Scene], plan: Plan) -> Iterator[str]:
    """What the reader should know before the figures."""
    yield from views.remarks
    if not views.has_labels:
        yield (
            "no labels: classes, rare records, accuracy and wrong labels are left out, and the copies caught are all that is told"
        )
    shortest = shortest_of(scenes)
    if views.has_labels and shortest < 2 * plan.size:
        yield (
            f"the shortest stream has {counted(shortest, 'record')}, so each selection picks {plan.sizes(shortest)[-1]:,} "
            f"and not {plan.size:,}"
        )
    for scene, share in zip(scenes[1:], plan.rare_shares, strict=False):
        counts = [int(each.marked.sum()) for each in scene.streams]
        if counts and np.mean(counts) < _FEW:
            whole = np.mean([len(each.rows) for each in scene.streams])
            yield (
                f"{rare_name(share)}: a stream has {counted(round(float(np.mean(counts))), 'rare record')} among {whole:,.0f} "
                f"({100 * np.mean(counts) / whole:.1f} %), so that each of them moves the figure far"
            )
    for gradient, vectors in views.gradients.items():
        silent = int((~vectors.any(axis=1)).sum())
        if silent:
            yield f"{gradient}: {silent:,} rows have a gradient without a direction and are never picked"


def _report(
    viewed: Viewed,
    plan: Plan,
    found: Found,
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
            sizes=list(found.sizes),
            draws=found.draws,
            seed=plan.seed,
            rare=list(plan.rare),
            rare_shares=list(plan.rare_shares),
            wrong_share=plan.wrong_share,
            dimension=viewed.dimension,
            configured_gradient=viewed.configured_gradient,
        ),
        streams=found.streams,
        selections=found.selections,
        measures=found.measures,
        copies=found.copies,
        suspects=found.suspects,
        remarks=remarks,
        interrupted=interrupted,
        seconds=time.perf_counter() - started,
        peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * per_unit,
    )
