"""Decisions at one τ: the closest calls, each with the unique it was held against, and all of them beside their value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dugs_stream.core.index.unique_index import UniqueIndex
from dugs_stream.core.selection import select
from dugs_stream.lab.calibrate.report import Call, Closest, NewAndGood, Side, Value
from dugs_stream.lab.samples import ProjectedSample
from dugs_stream.pipeline.target import Target
from dugs_stream.records import Decision, Verdict


@dataclass(frozen=True, slots=True)
class ClosestCalls:
    """The calls, and the rows of the records in them, for their pictures: duplicates first, each before its nearest."""

    closest: Closest
    duplicate_rows: tuple[tuple[int, int], ...]
    unique_rows: tuple[tuple[int, int], ...]

    @property
    def rows(self) -> list[int]:
        """Every row that is shown."""
        return sorted({row for pair in (*self.duplicate_rows, *self.unique_rows) for row in pair})


def decisions_at(sample: ProjectedSample, threshold: float) -> list[Decision]:
    """Of each record of the sample, from an empty list."""
    index = UniqueIndex(sample.vectors.shape[1])
    return select(index, sample.vectors, sample.norms, threshold=threshold)


def closest_calls(sample: ProjectedSample, decisions: Sequence[Decision], most: int) -> ClosestCalls:
    """At most so many on each side."""
    row_of = [row for row, decision in enumerate(decisions) if decision.verdict is Verdict.UNIQUE]
    found = [
        (decision.similarity, row, row_of[decision.nearest], decision.verdict)
        for row, decision in enumerate(decisions)
        if decision.similarity is not None and decision.nearest is not None
    ]
    duplicates = sorted(each[:3] for each in found if each[3] is Verdict.DUPLICATE)[:most]
    uniques = sorted((each[:3] for each in found if each[3] is Verdict.UNIQUE), reverse=True)[:most]

    def call(similarity: float, row: int, nearest: int) -> Call:
        return Call(record=side(row), nearest=side(nearest), similarity=similarity)

    def side(row: int) -> Side:
        return Side(id=sample.ids[row], key=sample.keys[row], label=sample.labels.name_of(row))

    return ClosestCalls(
        Closest(
            duplicates=[call(*each) for each in duplicates],
            uniques=[call(*each) for each in uniques],
        ),
        tuple((row, nearest) for _, row, nearest in duplicates),
        tuple((row, nearest) for _, row, nearest in uniques),
    )


def new_and_good(
    decisions: Sequence[Decision], values: NDArray[np.float64], target: Target, name: str
) -> Value:
    """Each record by how new it is and by its value (n,) for the target of that name."""
    records = [
        NewAndGood(
            similarity=decision.similarity, value=float(value), is_unique=decision.sequence is not None
        )
        for decision, value in zip(decisions, values, strict=True)
    ]
    counts = Counter((each.is_unique, each.value > 0) for each in records)
    return Value(
        target=name,
        digest=target.digest,
        target_records=target.mean.samples,
        own_value=target.mean.own_value,
        unique_and_good=counts[True, True],
        unique_and_not=counts[True, False],
        duplicate_and_good=counts[False, True],
        duplicate_and_not=counts[False, False],
        records=records,
    )
