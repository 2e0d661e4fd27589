"""Other thresholds of a list that is there: what they would have kept of the records behind it.

Only the uniques' vectors are kept. So below the τ in force the list itself is judged again: exact for its uniques, and a
little too few for the stream, since a record that one of the dropped uniques absorbed may be new then. Above it only the
decisions topic knows anything, the similarities of duplicates: far too many, since at a higher τ they would have met a longer
list. With the vectors of all records (`dugs scan --vectors`) every τ is exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dugs_stream.commands.index import replayed
from dugs_stream.commands.tail import events
from dugs_stream.commands.threshold_table import THRESHOLDS
from dugs_stream.config import Settings
from dugs_stream.core.index.unique_index import UniqueIndex
from dugs_stream.core.selection import select
from dugs_stream.core.thresholds import ManyThresholds
from dugs_stream.errors import ConfigurationError, LogError, StateError
from dugs_stream.lab.calibrate.list_report import AtThreshold, Basis, Kind, ListReport
from dugs_stream.lab.clusters.sources.export import unit_rows_of
from dugs_stream.lab.clusters.uniques import MatrixRows, UnitRows
from dugs_stream.lab.decisions_of_list import ListOrigin, decisions_of_list, origin_in_state, origin_of
from dugs_stream.lab.listener import Listener
from dugs_stream.records import Verdict
from dugs_stream.state.reading import SnapshotReader

_AT_ONCE = 4_096
"""Uniques judged again together; the products of all pairs of so many are 64 MB."""
_TOLD_EACH = 1_000


def of_state(settings: Settings, wished: Sequence[float], listener: Listener) -> ListReport:
    """Of the newest snapshot in the state folder. Raises StateError if there is none, or it is damaged."""
    reader = SnapshotReader(settings.state.dir)
    if not len(reader.rows):
        raise StateError(f"{settings.state.dir} holds no unique yet; judge some records first")
    known = _Known(
        "state", str(settings.state.dir), reader.snapshot.trailer.threshold, origin_in_state(reader)
    )
    return _of_list(settings, known, reader.rows, wished, listener)


def of_changelog(settings: Settings, wished: Sequence[float], listener: Listener) -> ListReport:
    """Of the changelog, read from its beginning. Raises ChangelogError if it is not whole, StateError if it is empty."""
    topic = settings.output.changelog_topic
    listener.stage(f"Reading {topic}")
    truth = replayed(settings)
    if not truth.events:
        raise StateError(f"{topic} holds no unique yet; judge some records first")
    in_force = float(truth.events[-1]["threshold"])
    known = _Known("changelog", topic, in_force, origin_of(truth.events))
    return _of_list(settings, known, MatrixRows(truth.vectors), wished, listener)


def of_vectors(file: Path, wished: Sequence[float], listener: Listener) -> ListReport:
    """Of all records of a scan, in its order. Raises StateError if the file does not hold unit rows and zeros."""
    rows = unit_rows_of(file, "write it again with `dugs scan --vectors`", zeros=True)
    rows = rows[rows.any(axis=1)]
    if not len(rows):
        raise StateError(f"{file} holds no vector but zeros; no record had a gradient")
    listener.stage(f"Judging {len(rows):,} records at each threshold")
    found, stopped = _judged_again(MatrixRows(rows), sorted({*THRESHOLDS, *wished}), listener)
    return ListReport(
        kind="vectors",
        place=str(file),
        vectors=len(rows),
        records=len(rows),
        in_force=None,
        thresholds=[
            AtThreshold(threshold=each, uniques=count, of_list=count, basis=Basis.EXACT)
            for each, count in found.items()
        ],
        remarks=[],
        interrupted=stopped,
    )


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a list: where it lies, the τ in force, and its origin."""

    kind: Kind
    place: str
    in_force: float
    origin: ListOrigin


def _of_list(
    settings: Settings, known: _Known, rows: UnitRows, wished: Sequence[float], listener: Listener
) -> ListReport:
    in_force = known.in_force
    thresholds = sorted({*THRESHOLDS, in_force, *wished})
    below, remarks = _counted(settings, thresholds, known, listener)
    listener.stage(f"Judging {len(rows):,} uniques again")
    found, stopped = _judged_again(rows, [each for each in thresholds if each < in_force], listener)
    table = []
    for threshold in thresholds:
        count: int | None = len(rows)
        of_list, basis = len(rows), Basis.EXACT
        if threshold > in_force:
            count, basis = (None if below is None else below.at[threshold]), Basis.SIMILARITIES
        elif threshold < in_force:
            if threshold not in found:  # an interrupt came first
                continue
            count, of_list, basis = found[threshold], found[threshold], Basis.UNIQUES
        table.append(AtThreshold(threshold=threshold, uniques=count, of_list=of_list, basis=basis))
    return ListReport(
        kind=known.kind,
        place=known.place,
        vectors=len(rows),
        records=None if below is None else below.records,
        in_force=in_force,
        thresholds=table,
        remarks=remarks,
        interrupted=stopped if below is None else below.cut or stopped,
    )


def _judged_again(
    rows: UnitRows, thresholds: Sequence[float], listener: Listener
) -> tuple[dict[float, int], str | None]:
    """How many of the rows are uniques at each τ, in their order; an interrupt leaves the τ that are done."""
    many = ManyThresholds(rows.all()) if len(rows) <= _AT_ONCE else None
    found: dict[float, int] = {}
    for done, threshold in enumerate(thresholds):
        listener.progress(done, len(thresholds))
        if listener.wants_stop():
            return found, f"judging again: {done} of {len(thresholds)} thresholds are done"
        found[threshold] = _of_blocks(rows, threshold) if many is None else len(many.uniques(threshold))
    return found, None


def _of_blocks(rows: UnitRows, threshold: float) -> int:
    """Of a list too long for all pairs at once."""
    index = UniqueIndex(rows.dimension)
    for _start, block in rows.blocks(_AT_ONCE):
        decisions = select(index, block, np.ones(len(block)), threshold=threshold, explain="bound")
        index.add(block[[row for row, each in enumerate(decisions) if each.verdict is Verdict.UNIQUE]])
    return len(index)


@dataclass(frozen=True, slots=True)
class _Counted:
    """Decisions of records with a gradient, at each τ those whose similarity to the list lay below; and an interrupt."""

    records: int
    at: Mapping[float, int]
    cut: str | None


def _counted(
    settings: Settings, thresholds: Sequence[float], known: _Known, listener: Listener
) -> tuple[_Counted | None, list[str]]:
    """From the decisions topic up to its end as of now; None with a remark why nothing is known."""
    topic = settings.output.decisions_topic
    if topic is None:
        return None, ["there is no decisions topic, so nothing is known of thresholds above the one in force"]
    listener.stage(f"Reading {topic}")
    uniques, others, similarities, given = 0, 0, list[float](), set[float]()
    cut: str | None = None
    try:
        decisions = decisions_of_list(events(settings, "decisions"), known.origin)
        for number, event in enumerate(decisions, start=1):
            given.add(float(event["threshold"]))
            if event["type"] == Verdict.UNIQUE:
                uniques += 1
            elif event["type"] == Verdict.DUPLICATE:
                similarities.append(float(event["similarity"]))
            else:
                others += 1
            if number % _TOLD_EACH == 0:
                listener.progress(number, None)
                if listener.wants_stop():
                    cut = f"reading {topic}: the first {number:,} decisions were counted"
                    break
    except (LogError, ConfigurationError) as error:
        return None, [f"the decisions topic cannot be read: {error}"]
    found = np.array(similarities)
    at = {each: uniques + int(np.count_nonzero(found < each)) for each in thresholds}
    remarks = _remarks(others, is_of_one=given <= {known.in_force}, explain=settings.selection.explain)
    return _Counted(uniques + len(similarities), at, cut), remarks


def _remarks(others: int, *, is_of_one: bool, explain: str) -> list[str]:
    """What the similarities of the decisions leave open."""
    remarks = []
    if others:
        remarks.append(f"{others:,} decisions are of records without a gradient, which no threshold keeps")
    if not is_of_one:
        remarks.append("the threshold was changed meanwhile: similarities are to the list as it was by then")
    if explain == "decision":
        remarks.append("selection.explain is decision: similarities are not those to the nearest unique")
    return remarks
