"""Streams that selections are measured on: the records as they are, with rare classes, and with wrong labels.

A stream is rows of the views in a random order of arrival. The records of the pool are drawn from, those held out never.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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


class Stream(NamedTuple):
    """Rows (m,) in order of arrival, and those (m,) that are looked for among the picks: rare, or wrong."""

    rows: NDArray[np.int64]
    marked: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Scene:
    """Streams of one kind, one a draw; or why there is none."""

    name: str
    streams: tuple[Stream, ...]
    missing: str | None = None

    @property
    def is_one_set(self) -> bool:
        """Whether its streams hold the same records, and differ in their order alone."""
        return self.name in {AS_IT_IS, WRONG_LABELS}


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
    pool, _ = pool_and_held_out(views)
    plain = tuple(_unmarked(generator.permutation(pool)) for _ in range(plan.draws))
    return [
        Scene(AS_IT_IS, plain),
        *(_rare(views, pool, share, rare, plan.draws, generator) for share in plan.rare_shares),
        _wrong(views, pool, plan, generator),
    ]


def shortest_of(scenes: Sequence[Scene]) -> int:
    """Records of the shortest stream; 0 without any."""
    return min((len(each.rows) for scene in scenes for each in scene.streams), default=0)


def _unmarked(rows: NDArray[np.int64]) -> Stream:
    return Stream(rows, np.zeros(len(rows), dtype=np.bool_))


def _rare(
    views: Views,
    pool: NDArray[np.int64],
    share: float,
    given: NDArray[np.int64],
    draws: int,
    generator: np.random.Generator,
) -> Scene:
    name = rare_name(share)
    if not views.has_labels:
        return Scene(name, (), "it needs labels")
    classes = np.unique(views.labels[pool])
    if len(classes) < _LEAST_CLASSES:
        return Scene(name, (), "it needs two classes")
    rare = np.intersect1d(given, classes)
    if len(given) and not len(rare):
        return Scene(name, (), "it needs records of the rare classes beside those held out")
    if len(rare) == len(classes):
        return Scene(name, (), "it needs a class that is not rare")
    return Scene(name, tuple(_each_rare(views, pool, share, rare, draws, generator)))


def _each_rare(
    views: Views,
    pool: NDArray[np.int64],
    share: float,
    given: NDArray[np.int64],
    draws: int,
    generator: np.random.Generator,
) -> Iterator[Stream]:
    """All records of the other classes, and so many of the rare ones; at least one."""
    labels, classes = views.labels[pool], np.unique(views.labels[pool])
    number = max(1, min(len(classes) - 1, round(len(classes) * _RARE_OF_CLASSES)))
    for _ in range(draws):
        rare = given if len(given) else generator.permutation(classes)[:number]
        is_rare = np.isin(labels, rare)
        count = max(1, round(share / (1 - share) * int((~is_rare).sum())))
        few = generator.permutation(pool[is_rare])[:count]
        rows = generator.permutation(np.concatenate([pool[~is_rare], few]))
        yield Stream(rows, np.isin(rows, few))


def _wrong(views: Views, pool: NDArray[np.int64], plan: Plan, generator: np.random.Generator) -> Scene:
    wrong = views.rows(Kind.WRONG_LABEL)
    wrong = wrong[np.isin(views.origin[wrong], pool)]
    if not len(wrong):
        has_two = views.has_labels and len(np.unique(views.labels[pool])) >= _LEAST_CLASSES
        return Scene(
            WRONG_LABELS,
            (),
            "no label was drawn to be wrong" if has_two else "it needs labels of two classes",
        )
    right = pool[~np.isin(pool, views.origin[wrong])]
    drawn = [generator.permutation(np.concatenate([right, wrong])) for _ in range(plan.draws)]
    return Scene(WRONG_LABELS, tuple(Stream(rows, np.isin(rows, wrong)) for rows in drawn))


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
