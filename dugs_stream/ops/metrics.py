"""Prometheus metrics of the daemon, on the registry that is handed in.

Names have one prefix and base units. Label values come from closed sets (verdicts, stages, outcomes, reasons,
roles), from the configuration (topic, partition, model) or from the first hundred classes; never from a record's
id, key or error. The use of memory, disk and GPU is in `ops.machine`.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from functools import partial
from math import nan
from time import perf_counter

from prometheus_client import CollectorRegistry

from dugs_stream.changelog.replay import ChangelogHead
from dugs_stream.errors import (
    DugsError,
    OffsetsDisagreeError,
    StateError,
    StreamRejectedError,
    TransactionAbortedError,
)
from dugs_stream.ops.index_metrics import IndexMetrics
from dugs_stream.ops.metric_classes import Counter, Gauge, Histogram, observe_all
from dugs_stream.ops.value_metrics import ValueMetrics
from dugs_stream.records import JudgedRecord, Reason, Verdict


class Stage(StrEnum):
    """The stages of a micro-batch, in their order."""

    POLL = "poll"
    DECODE = "decode"
    GRADIENT = "gradient"
    SEARCH = "search"
    COMMIT = "commit"


class CommitOutcome(StrEnum):
    """How a transaction ended. An unknown outcome ends the process, so it is seen in logs, not here."""

    COMMITTED = "committed"
    ABORTED = "aborted"


class SnapshotOutcome(StrEnum):
    """How an attempt to write a snapshot ended; one with nothing new to write is not counted."""

    WRITTEN = "written"
    FAILED = "failed"


class DamagedKind(StrEnum):
    """The part of the state folder that was damaged and is restored from the changelog."""

    MANIFEST = "manifest"
    VECTORS = "vectors"
    EVENTS = "events"


class RecoveryReason(StrEnum):
    """Why the state had to be replayed to the changelog's end."""

    START = "start"
    OWNERSHIP_LOST = "ownership_lost"
    ABORTED = "aborted"
    LOG_UNAVAILABLE = "log_unavailable"
    DAMAGED = "damaged"


class RefusalReason(StrEnum):
    """Why the daemon refuses to continue and is about to exit; each needs another step of the operator's."""

    OFFSETS_DISAGREE = "offsets_disagree"
    CHANGELOG = "changelog"
    ALL_REJECTED = "all_rejected"


class Role(StrEnum):
    """The role of this process in the group."""

    OWNER = "owner"
    STANDBY = "standby"
    RECOVERING = "recovering"


@dataclass(frozen=True, slots=True)
class BuildFacts:
    """The labels of `dugs_build_info`, in their order: version, model and settings."""

    version: str
    model: str
    fingerprint: str
    k: int
    threshold: float
    device: str


# From a tenth of a millisecond (an empty poll) to a minute (a large batch of a large model on a CPU).
_SECONDS = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
# Twentieths, so that the usual thresholds (0.3, 0.7, 0.9, 0.95) are bucket edges.
_COSINES = tuple(round(-0.2 + step / 20, 2) for step in range(25))
# Digit streams were seen to run from 3e-9 to 1e2 within one hour: two buckets a decade around that.
_NORMS = tuple(base * 10.0**power for power in range(-10, 4) for base in (1, 3))
_RECORDS = (1, 4, 16, 32, 64, 128, 256, 512, 1024, 4096)
# One series per class and instance: a hundred are cheap for Prometheus and cover most label sets; the others share one.
_NAMED_CLASSES = 100
_OTHER_CLASSES, _NO_LABEL = "other", "none"


class Metrics:
    """The daemon's counters, gauges and histograms."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._dimension = 0  # until the model is there
        self._value: ValueMetrics | None = None
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        histogram = partial(Histogram, registry=registry)

        self._records = counter("dugs_records", "Records decided.", ["verdict"])
        self._rejected = counter("dugs_rejected", "Records sent to the dead-letter topic.", ["reason"])
        self._truncated = counter("dugs_truncated", "Texts cut at the most tokens that are read of one.")
        self._uniques_by_label = counter(
            "dugs_uniques",
            f"Uniques found, by class; those from number {_NAMED_CLASSES} on share one series.",
            ["label"],
        )
        self._similarity = histogram(
            "dugs_similarity", "Cosine of a sample to its nearest unique.", buckets=_COSINES
        )
        self._gradient_norm = histogram(
            "dugs_gradient_norm", "Norm of the projected gradient.", buckets=_NORMS
        )
        self._uniques = gauge("dugs_index_uniques", "Uniques in the index.")
        self._index_bytes = gauge("dugs_index_bytes", "Memory of the index's vectors.")
        self.index_reported = IndexMetrics(registry).show
        self._threshold = gauge("dugs_threshold", "The similarity from which on a record is a duplicate.")

        self._stages = histogram(
            "dugs_stage_duration_seconds",
            "Time one micro-batch spent in a stage.",
            ["stage"],
            buckets=_SECONDS,
        )
        self._waiting = counter(
            "dugs_stage_waiting_seconds",
            "Time for which a stage had nothing to do: what it works on was not there yet.",
            ["stage"],
        )
        self._batch_records = histogram("dugs_batch_records", "Records in a micro-batch.", buckets=_RECORDS)
        self._batch_limit = gauge(
            "dugs_batch_limit_records", "Records the next micro-batch may hold, by time and memory."
        )
        self._out_of_memory = counter("dugs_out_of_memory", "Micro-batches halved because memory ran out.")
        self._commits = counter("dugs_commits", "Transactions, by how they ended.", ["outcome"])
        self._last_commit = gauge(
            "dugs_last_commit_timestamp_seconds", "When this process last committed; 0 before its first."
        )
        self._lag = gauge(
            "dugs_consumer_lag_records", "Input records not yet polled.", ["topic", "partition"]
        )
        self._held_back = gauge(
            "dugs_input_held_back_seconds",
            "For how long one open transaction of another program has hidden input records; they count as no lag.",
            ["topic", "partition"],
        )
        self._up_to_date = gauge("dugs_up_to_date", "1 when the lag is within one micro-batch.")
        self._records_lost = counter("dugs_records_lost", "Input records deleted before they were decided.")

        self._recoveries = counter(
            "dugs_recoveries", "Times the state was rebuilt from the changelog.", ["reason"]
        )
        self._recovery_seconds = histogram(
            "dugs_recovery_duration_seconds", "Time one recovery took.", buckets=_SECONDS
        )
        self.snapshot_age_seconds = gauge(
            "dugs_snapshot_age_seconds", "Time since the disk last held all that was known."
        )
        self._snapshots = counter(
            "dugs_snapshots", "Tries to write a snapshot, by how they ended.", ["outcome"]
        )
        self._state_damaged = counter(
            "dugs_state_damaged", "Parts of the state folder found damaged and set aside.", ["kind"]
        )
        self._offsets_disagreement = gauge(
            "dugs_offsets_disagreement_records",
            "Records between the group's committed offsets and those the changelog says, either way.",
        )
        self._refused = gauge(
            "dugs_refused",
            "1 while the process refuses to go on for this reason and is about to leave.",
            ["reason"],
        )
        self.gradient_layers = gauge(
            "dugs_gradient_layers", "Chosen layers, by how their gradients are computed.", ["path"]
        )
        self._role = gauge("dugs_role", "1 for the role this process has.", ["role"])
        self._build = gauge(
            "dugs_build_info",
            "What is running, as labels; the value is always 1.",
            [field.name for field in fields(BuildFacts)],
        )
        self._threshold.set(nan)  # until the model is there; zero would be a threshold
        self._show_closed_sets()

    def _show_closed_sets(self) -> None:
        """Let every series of a closed set start at zero: a rate needs a first point before the first event."""
        for family, values in (
            (self._records, Verdict),
            (self._rejected, Reason),
            (self._stages, Stage),
            (self._waiting, Stage),
            (self._commits, CommitOutcome),
            (self._snapshots, SnapshotOutcome),
            (self._state_damaged, DamagedKind),
            (self._recoveries, RecoveryReason),
            (self._refused, RefusalReason),
            (self._uniques_by_label, (_OTHER_CLASSES, _NO_LABEL)),
        ):
            for value in values:
                family.labels(value)
        self.role_changed(Role.STANDBY)

    @contextmanager
    def stage(self, stage: str) -> Iterator[None]:
        """Time one stage of one micro-batch, also when it fails. Any thread."""
        started = perf_counter()
        try:
            yield
        finally:
            self._stages.labels(stage=Stage(stage)).observe(perf_counter() - started)

    @contextmanager
    def waiting(self, stage: str) -> Iterator[None]:
        """Time for which a stage waits for its next micro-batch, also if none comes. Any thread.

        Around the wait alone, never inside `stage`: the share of busy time tells which stage is the bottleneck.
        """
        started = perf_counter()
        try:
            yield
        finally:
            self._waiting.labels(stage=Stage(stage)).inc(perf_counter() - started)

    def batch_committed(self, batch: Sequence[JudgedRecord], _head: ChangelogHead) -> None:
        """Count a committed micro-batch; nothing is counted before its commit."""
        self._batch_records.observe(len(batch))
        self._commits.labels(outcome=CommitOutcome.COMMITTED).inc()
        self._last_commit.set_to_current_time()
        decisions = [judgement.decision for judgement in batch]
        for verdict, records in Tally(decision.verdict for decision in decisions).items():
            self._records.labels(verdict=verdict).inc(records)
        observe_all(self._similarity, [each.similarity for each in decisions if each.similarity is not None])
        norms = [each.gradient_norm for each in decisions if each.gradient_norm is not None]
        observe_all(self._gradient_norm, norms)
        if self._value is not None:
            self._value.observe(batch)
        for judgement in batch:
            if judgement.is_cut:
                self._truncated.inc()
            if judgement.decision.sequence is not None:
                name = _label_value(judgement.label, judgement.label_name)
                self._uniques_by_label.labels(label=name).inc()
            if judgement.decision.rejection is not None:
                self._rejected.labels(reason=judgement.decision.rejection.reason).inc()

    def records_are_valued(self) -> ValueMetrics:
        """Show values from now on; without a target there is no such series."""
        self._value = ValueMetrics(self.registry)
        return self._value

    def classes_known(self, names: Sequence[str | None]) -> None:
        """Let the classes start at zero as the closed sets do; a class without a name goes by its number."""
        for number, name in enumerate(names[:_NAMED_CLASSES]):
            self._uniques_by_label.labels(label=_label_value(number, name))

    def ownership_voided(self, error: Exception) -> None:
        """Count an aborted transaction."""
        if isinstance(error, TransactionAbortedError):
            self._commits.labels(outcome=CommitOutcome.ABORTED).inc()

    def batch_judged(self, limit: int) -> None:
        """Show how many records the next micro-batch may hold."""
        self._batch_limit.set(limit)

    def batch_halved(self, _records: int, limit: int, _error: str) -> None:
        """Count a micro-batch that did not fit."""
        self._out_of_memory.inc()
        self._batch_limit.set(limit)

    def records_lost(self, records: int) -> None:
        """Count input records that were deleted before they could be decided."""
        self._records_lost.inc(records)

    def snapshot_written(self, _snapshot: object) -> None:
        """Count a snapshot."""
        self._snapshots.labels(outcome=SnapshotOutcome.WRITTEN).inc()

    def snapshot_failed(self, _error: StateError) -> None:
        """Count an attempt to write one."""
        self._snapshots.labels(outcome=SnapshotOutcome.FAILED).inc()

    def state_damaged(self, kind: DamagedKind, _file: str) -> None:
        """Count a damaged part of the state folder."""
        self._state_damaged.labels(kind=kind).inc()

    def head_moved(self, head: ChangelogHead) -> None:
        """Show the size of the index: a row of k float32 for each unique."""
        self._uniques.set(head.uniques)
        self._index_bytes.set(head.uniques * self._dimension * 4)

    def lag_changed(self, topic: str, lag: dict[int, int], batch_records: int) -> None:
        """Show the lag of each partition, and whether one micro-batch of this size would clear it all."""
        for partition, records in lag.items():
            self._lag.labels(topic=topic, partition=partition).set(records)
        self._up_to_date.set(1 if sum(lag.values()) <= batch_records else 0)

    def input_held_back(self, topic: str, seconds: Mapping[int, float]) -> None:
        """Show for how long an open transaction of another program has hidden records; 0 where none does."""
        for partition, held in seconds.items():
            self._held_back.labels(topic=topic, partition=partition).set(held)

    def offsets_compared(self, records: int) -> None:
        """Show how many records lie between the group's offsets and the changelog's; it should be 0."""
        self._offsets_disagreement.set(records)

    def refused(self, error: DugsError, _seconds: float) -> None:
        """Show why this process refuses to continue; it stays set until the process ends."""
        reason = RefusalReason.CHANGELOG
        if isinstance(error, OffsetsDisagreeError):
            reason = RefusalReason.OFFSETS_DISAGREE
        elif isinstance(error, StreamRejectedError):
            reason = RefusalReason.ALL_REJECTED
        self._refused.labels(reason=reason).set(1)

    def recovered(self, reason: RecoveryReason, seconds: float, _head: ChangelogHead) -> None:
        """Count a recovery and its time."""
        self._recoveries.labels(reason=reason).inc()
        self._recovery_seconds.observe(seconds)

    def role_changed(self, role: Role) -> None:
        """Show the one role this process has now."""
        for each in Role:
            self._role.labels(role=each).set(1 if each is role else 0)

    def built(self, facts: BuildFacts) -> None:
        """Show what is running."""
        self._dimension = facts.k
        self._threshold.set(facts.threshold)
        self._build.labels(**asdict(facts)).set(1)


def _label_value(number: int | None, name: str | None) -> str:
    """A class as a label value, the same in every process: which classes share a series depends on their number only."""
    if number is None:
        return _NO_LABEL
    if not 0 <= number < _NAMED_CLASSES:
        return _OTHER_CLASSES
    return str(number) if name is None else name
