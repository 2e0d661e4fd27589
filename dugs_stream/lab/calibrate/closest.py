"""Closest calls: the decisions at one τ that were nearest to the other side, each with the unique it was held against."""

from __future__ import annotations

from dataclasses import dataclass

from dugs_stream.core.index.unique_index import UniqueIndex
from dugs_stream.core.selection import select
from dugs_stream.lab.calibrate.report import Call, Closest, Side
from dugs_stream.lab.samples import ProjectedSample
from dugs_stream.records import Verdict


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


def closest_calls(sample: ProjectedSample, threshold: float, most: int) -> ClosestCalls:
    """At most so many on each side."""
    index = UniqueIndex(sample.vectors.shape[1])
    decisions = select(index, sample.vectors, sample.norms, threshold=threshold)
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
