"""Streams that selections are measured on: the records as they are, with rare classes, and with wrong labels.

A stream is rows of the views in a random order of arrival. Streams come in pairs: the records are split at random into two
halves, and each stream has the records of one. So the two of a pair are drawn from the data as two samples of it are from what it came
from, and how far they lie apart says how far a figure depends on the records that one happens to have.

Source: half-sampling, McCarthy, "Pseudo-replication: half samples", 1969.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dugs_stream.lab.evaluate.plan import Plan
from dugs_stream.lab.evaluate.views import Kind, Views

AS_IT_IS = "as it is"
WRONG_LABELS = "wrong labels"
_RARE_OF_CLASSES = 0.2
"""The share of the classes that are made rare: two of ten."""
_LEAST_CLASSES = 2
_LEAST_HALVED = 2
"""Records of which each half has one."""


class Stream(NamedTuple):
    """Rows (m,) in order of arrival, and those (m,) that are looked for among the picks: rare, or wrong.

    tested  (h,) rows of records held out, on which accuracy is told: of a pair each has half of them
    """

    rows: NDArray[np.int64]
    marked: NDArray[np.bool_]
    tested: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Scene:
    """Streams of one kind, the two of a pair one after the other, or a single one; or why there is none."""

    name: str
    streams: tuple[Stream, ...]
    missing: str | None = None


def rare_name(share: float) -> str:
    """The name of streams with that share of rare records."""
    return f"rare {share:.4%}".rstrip("0%").rstrip(".") + " %"


def pool_and_held_out(views: Views) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The records to draw from, and a quarter of them, the last, on which accuracy is told."""
    records = views.rows(Kind.RECORD)
    cut = len(records) - len(records) // 4
    return records[:cut], records[cut:]


def scenes_of(views: Views, plan: Plan, rare: NDArray[np.int64]) -> list[Scene]:
    """The streams of each kind, the same for the same seed; `rare` are the classes that are made so, none: drawn anew."""
    generator = np.random.default_rng(plan.seed)
    pool, held_out = pool_and_held_out(views)
    if len(pool) < 2 * _LEAST_HALVED:
        plan = replace(plan, draws=1)
    return [
        _plain(pool, held_out, plan, generator),
        *(_rare(views, pool, held_out, share, rare, plan, generator) for share in plan.rare_shares),
        _wrong(views, pool, held_out, plan, generator),
    ]


def _splits(plan: Plan) -> int:
    """How often the records are split: two streams come of each."""
    return -(-plan.draws // 2)


def _halves(
    rows: NDArray[np.int64], plan: Plan, generator: np.random.Generator
) -> tuple[NDArray[np.int64], ...]:
    """The rows in two halves at random; all together for a plan of a single stream."""
    return (rows,) if plan.draws == 1 else tuple(np.array_split(generator.permutation(rows), 2))


def shortest_of(scenes: Sequence[Scene]) -> int:
    """Records of the shortest stream; 0 without any."""
    return min((len(each.rows) for scene in scenes for each in scene.streams), default=0)


def _plain(
    pool: NDArray[np.int64], held_out: NDArray[np.int64], plan: Plan, generator: np.random.Generator
) -> Scene:
    streams = [
        Stream(generator.permutation(rows), np.zeros(len(rows), dtype=np.bool_), tested)
        for _ in range(_splits(plan))
        for rows, tested in zip(
            _halves(pool, plan, generator), _halves(held_out, plan, generator), strict=True
        )
    ]
    return Scene(AS_IT_IS, tuple(streams))


def _rare(
    views: Views,
    pool: NDArray[np.int64],
    held_out: NDArray[np.int64],
    share: float,
    given: NDArray[np.int64],
    plan: Plan,
    generator: np.random.Generator,
) -> Scene:
    name = rare_name(share)
    if not views.has_labels:
        return Scene(name, (), "it needs labels")
    classes, counts = np.unique(views.labels[pool], return_counts=True)
    if len(classes) < _LEAST_CLASSES:
        return Scene(name, (), "it needs two classes")
    rare = np.intersect1d(given, classes)
    if len(given) and not len(rare):
        return Scene(name, (), "it needs records of the rare classes beside those held out")
    if len(rare) == len(classes):
        return Scene(name, (), "it needs a class that is not rare")
    least = 1 if plan.draws == 1 else _LEAST_HALVED
    may_be_rare = rare if len(rare) else classes[counts >= least]
    is_rare = np.isin(views.labels[pool], may_be_rare)
    if is_rare.sum() < least or (len(rare) and (~is_rare).sum() < least):
        return Scene(name, (), "it needs two records of the rare classes, and two of others")
    return Scene(name, tuple(_each_rare(views, pool, held_out, share, rare, may_be_rare, plan, generator)))


def _each_rare(
    views: Views,
    pool: NDArray[np.int64],
    held_out: NDArray[np.int64],
    share: float,
    given: NDArray[np.int64],
    may_be_rare: NDArray[np.int64],
    plan: Plan,
    generator: np.random.Generator,
) -> Iterator[Stream]:
    """All records of the other classes, and so many of the rare ones; at least one. The two of a pair have the same rare classes."""
    labels = views.labels[pool]
    number = max(1, min(len(np.unique(labels)) - 1, round(len(np.unique(labels)) * _RARE_OF_CLASSES)))
    for _ in range(_splits(plan)):
        rare = given if len(given) else generator.permutation(may_be_rare)[:number]
        is_rare = np.isin(labels, rare)
        few_of = _halves(pool[is_rare], plan, generator)
        others_of = _halves(pool[~is_rare], plan, generator)
        tested_of = _halves(held_out, plan, generator)
        for some, others, tested in zip(few_of, others_of, tested_of, strict=True):
            count = max(1, round(share / (1 - share) * len(others)))
            few = generator.permutation(some)[:count]
            rows = generator.permutation(np.concatenate([others, few]))
            yield Stream(rows, np.isin(rows, few), tested)


def _wrong(
    views: Views,
    pool: NDArray[np.int64],
    held_out: NDArray[np.int64],
    plan: Plan,
    generator: np.random.Generator,
) -> Scene:
    wrong = views.rows(Kind.WRONG_LABEL)
    wrong = wrong[np.isin(views.origin[wrong], pool)]
    if not len(wrong):
        has_two = views.has_labels and len(np.unique(views.labels[pool])) >= _LEAST_CLASSES
        return Scene(
            WRONG_LABELS,
            (),
            "no label was drawn to be wrong" if has_two else "it needs labels of two classes",
        )
    given = np.concatenate([pool[~np.isin(pool, views.origin[wrong])], wrong])
    streams: list[Stream] = []
    for _ in range(_splits(plan)):
        halves = zip(_halves(given, plan, generator), _halves(held_out, plan, generator), strict=True)
        for half, tested in halves:
            rows = generator.permutation(half)
            streams.append(Stream(rows, np.isin(rows, wrong), tested))
    return Scene(WRONG_LABELS, tuple(streams))


def wrong_labels(
    labels: Sequence[int | None], classes: Sequence[int], share: float, generator: np.random.Generator
) -> list[int | None]:
    """For each record another class than its own, for this share of them; None for the rest."""
    found: list[int | None] = []
    for label in labels:
        others = [each for each in classes if each != label]
        is_drawn = generator.random() < share
        found.append(
            int(others[int(generator.integers(len(others)))])
            if is_drawn and label is not None and others
            else None
        )
    return found
