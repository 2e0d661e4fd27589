"""Bench of an evaluation: one selection measured on every stream, at every size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dugs_stream.lab.evaluate.candidates import Candidate
from dugs_stream.lab.evaluate.measures import (
    Learner,
    classes_covered,
    interval_of,
    interval_of_pairs,
    marked_among,
    marked_found,
)
from dugs_stream.lab.evaluate.plan import Plan
from dugs_stream.lab.evaluate.report import Measured, MeasureName, Suspects
from dugs_stream.lab.evaluate.selections import GreedyUniques, Selection
from dugs_stream.lab.evaluate.streams import AS_IT_IS, WRONG_LABELS, Scene, Stream, shortest_of
from dugs_stream.lab.evaluate.suspects import suspects_among
from dugs_stream.lab.evaluate.views import Kind, Views


@dataclass(slots=True)
class _Values:
    """Of one measure at one size: a value for each draw, and how many were picked."""

    values: list[float] = field(default_factory=list)
    picks: list[int] = field(default_factory=list)


_Key = tuple[MeasureName, int]


class _StoppedError(Exception):
    """A selection is not measured on all streams, so none of its figures counts."""


class Bench:
    """What every selection is measured on. `sizes` are those of every stream, by the shortest.

    wants_stop  asked between two streams
    """

    def __init__(
        self,
        views: Views,
        scenes: list[Scene],
        learner: Learner | None,
        plan: Plan,
        wants_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._views, self._scenes, self._learner, self._plan = views, scenes, learner, plan
        self._wants_stop = wants_stop
        # One set of sizes: streams with other rare classes have other lengths, and figures of other sizes have no common mean.
        self.sizes = plan.sizes(shortest_of(scenes))
        self._suspected: dict[bytes, NDArray[np.bool_]] = {}

    def measured(self, candidate: Candidate) -> list[Measured] | None:
        """The candidate's rows, with those that have no value; None if it was told to stop before it had all."""
        try:
            return list(self._rows(candidate))
        except _StoppedError:
            return None

    def _rows(self, candidate: Candidate) -> Iterator[Measured]:
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
            if self._wants_stop():
                raise _StoppedError
            picker = selection(stream.rows, np.random.default_rng([self._plan.seed, draw]))
            for size in self.sizes:
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
            elif name == "wrong labels without suspects":
                is_left = ~self._suspects_of(stream)
                values = [marked_among(stream, each[is_left[each]]) for each in picks]
            elif self._learner is None or size < self.sizes[-1]:
                continue  # training takes longer than all else here
            else:
                values = [self._learner.accuracy(stream.rows[each], stream.tested) for each in picks[:1]]
            yield name, values

    def _names(self, scene: Scene) -> list[tuple[MeasureName, str | None]]:
        """The measures of a kind of streams, each with why it cannot be had."""
        if scene.name == WRONG_LABELS:
            suspects = None if self._can_suspect else "it needs embeddings, and logits of classes"
            return [
                ("wrong labels picked", scene.missing),
                ("wrong labels without suspects", scene.missing or suspects),
            ]
        if scene.name != AS_IT_IS:
            return [("rare records found", scene.missing)]
        labels = None if self._views.has_labels else "it needs labels"
        embeddings = None if self._learner is not None else "it needs embeddings, and records to hold out"
        return [("classes covered", labels), ("accuracy", labels or embeddings)]

    @cached_property
    def _can_suspect(self) -> bool:
        return suspects_among(self._views, self._views.rows(Kind.RECORD)) is not None

    def _suspects_of(self, stream: Stream) -> NDArray[np.bool_]:
        """Those of a stream, which every selection asks for."""
        key = stream.rows.tobytes()
        if key not in self._suspected:
            found = suspects_among(self._views, stream.rows)
            self._suspected[key] = np.zeros(len(stream.rows), np.bool_) if found is None else found
        return self._suspected[key]

    def suspects(self) -> Suspects | None:
        """How good the reading is, over the streams with wrong labels."""
        streams = [stream for scene in self._scenes if scene.name == WRONG_LABELS for stream in scene.streams]
        if not streams or not self._can_suspect:
            return None
        flagged = np.concatenate([self._suspects_of(stream) for stream in streams])
        wrong = np.concatenate([stream.marked for stream in streams])
        return Suspects(
            flagged=float(flagged.mean()),
            precision=float(wrong[flagged].mean()) if flagged.any() else None,
            recall=float(flagged[wrong].mean()),
        )


def _with_values(
    name: MeasureName,
    scene: Scene,
    candidate: Candidate,
    size: int,
    kept: _Values,
    thresholds: list[float] | None,
) -> Measured:
    is_one = len(kept.values) == 1
    mean, low, high = (interval_of if is_one else interval_of_pairs)(kept.values)
    return Measured(
        measure=name,
        stream=scene.name,
        selection=candidate.name,
        size=size,
        mean=mean,
        low=None if is_one else low,
        high=None if is_one else high,
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
