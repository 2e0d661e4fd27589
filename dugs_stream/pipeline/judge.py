"""Judgement of projected records: vectors in, verdicts out, each with what explains it.

Greedy in the order of the records, against the index as it stands and what the batch itself adds. Nothing is changed:
the uniques join the index once they are committed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from dugs_stream.core.index.unique_index import UniqueIndex
from dugs_stream.core.selection import Explain, select
from dugs_stream.pipeline.decode import StageTimer
from dugs_stream.pipeline.projected import Projected, ProjectedBatch
from dugs_stream.pipeline.target import Target
from dugs_stream.records import Decision, JudgedRecord, Rejection, Skip, Verdict

_WITH_GRADIENT = frozenset({Verdict.UNIQUE, Verdict.DUPLICATE})

IdOf = Callable[[int], str]
"""Sequence number of an earlier unique → the id of its record."""


@dataclass(slots=True)
class Judge:
    """The rule by which records are judged; see Deduplicator for its numbers. `clock_ms` dates the verdicts.

    target  what records are valued by; None: they have no value
    series  of a target that moves, what its states have in common. Another thread may set its target at any time: the
            records that are decided together are valued by one state
    """

    threshold: float
    min_gradient_norm: float
    explain: Explain
    clock_ms: Callable[[], int]
    stage: StageTimer
    target: Target | None = None
    series: str | None = None

    def decide(self, batch: ProjectedBatch, index: UniqueIndex, id_of: IdOf) -> tuple[JudgedRecord, ...]:
        """A verdict for each record of the batch, in order."""
        with self.stage("search"):
            decisions = select(
                index,
                batch.projection.vectors,
                batch.projection.norms,
                threshold=self.threshold,
                min_gradient_norm=self.min_gradient_norm,
                explain=self.explain,
            )
        judged = self._judged(batch, decisions, id_of)
        target = self.target
        is_valued = target is not None or self.series is not None
        return tuple(self._valued(judged, batch, target) if is_valued else judged)

    def _judged(
        self, batch: ProjectedBatch, decisions: Sequence[Decision], id_of: IdOf
    ) -> Iterator[JudgedRecord]:
        """Put names to numbers: ids of nearest uniques (also those of this very batch), labels, the time."""
        time_ms = self.clock_ms()
        fresh: dict[int, str] = {}
        for record, outcome in zip(batch.records, batch.outcomes, strict=True):
            if isinstance(outcome, Rejection):
                decision = Decision(Verdict.REJECTED, rejection=outcome)
                yield JudgedRecord(record, decision, time_ms, self.threshold)
                continue
            if isinstance(outcome, Skip):
                yield JudgedRecord(record, Decision(Verdict.SKIPPED), time_ms, self.threshold)
                continue
            decision = decisions[outcome.row]
            if decision.sequence is not None:
                fresh[decision.sequence] = record.id
            nearest = decision.nearest
            yield JudgedRecord(
                record,
                decision,
                time_ms,
                self.threshold,
                label=None if outcome.label is None else outcome.label.number,
                label_name=None if outcome.label is None else outcome.label.name,
                label_source=outcome.label_source,
                is_cut=outcome.is_cut,
                nearest_id=None if nearest is None else fresh.get(nearest) or id_of(nearest),
                vector=batch.projection.vectors[outcome.row] if decision.verdict is Verdict.UNIQUE else None,
            )

    def _valued(
        self, judged: Iterator[JudgedRecord], batch: ProjectedBatch, target: Target | None
    ) -> Iterator[JudgedRecord]:
        """The same with the value of each record that has a gradient to speak of, if there is a target now."""
        values = None if target is None else target.mean.values(batch.projection.vectors)
        digest = None if target is None else target.digest
        for each, outcome in zip(judged, batch.outcomes, strict=True):
            value = None
            if (
                values is not None
                and isinstance(outcome, Projected)
                and each.decision.verdict in _WITH_GRADIENT
            ):
                value = float(values[outcome.row])
            yield replace(each, value=value, value_target=digest, value_series=self.series)
