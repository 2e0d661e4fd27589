"""Every metric of the daemon, on the registry that is handed in.

Names carry one prefix and base units; label values come from closed sets (verdicts, stages, outcomes,
reasons, roles), from the configuration (topic, partition, model) or from the first hundred classes, never from a
record's id, key or error. What the process takes of its machine is `ops.machine`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from math import nan
from time import perf_counter

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from dugs_stream.records import JudgedRecord, Reason, Verdict


class Stage(StrEnum):
    """Where a micro-batch's time goes, in the order of its way through the house."""

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
    """How a try to write a snapshot ended; one with nothing new to write is not counted."""

    WRITTEN = "written"
    FAILED = "failed"


class DamagedKind(StrEnum):
    """Which part of the state folder could not be believed and was restored from the changelog."""

    MANIFEST = "manifest"
    VECTORS = "vectors"
    EVENTS = "events"


class RecoveryReason(StrEnum):
    """Why the state had to be brought to the changelog's end."""

    START = "start"
    OWNERSHIP_LOST = "ownership_lost"
    ABORTED = "aborted"
    LOG_UNAVAILABLE = "log_unavailable"


class RefusalReason(StrEnum):
    """Why the daemon will not go on and is about to leave; each has its own way out."""

    OFFSETS_DISAGREE = "offsets_disagree"
    CHANGELOG = "changelog"


class Role(StrEnum):
    """What this process is to the group right now."""

    OWNER = "owner"
    STANDBY = "standby"
    RECOVERING = "recovering"


@dataclass(frozen=True, slots=True)
class BuildFacts:
    """What `dugs_build_info` says: which engine, judged by which model, under which settings."""

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
# A series a class and instance: a hundred cost Prometheus nothing and cover most label sets; the others share one.
_NAMED_CLASSES = 100
_OTHER_CLASSES, _NO_LABEL = "other", "none"


class Metrics:
    """The daemon's counters, gauges and histograms."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._records = Counter("dugs_records", "Records decided.", ["verdict"], registry=registry)
        self._rejected = Counter(
            "dugs_rejected", "Records sent to the dead-letter topic.", ["reason"], registry=registry
        )
        self._stages = Histogram(
            "dugs_stage_duration_seconds",
            "Time one micro-batch spent in a stage.",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._uniques_by_label = Counter(
            "dugs_uniques",
            f"Uniques found, by class; those from number {_NAMED_CLASSES} on share one series.",
            ["label"],
            registry=registry,
        )
        self._similarity = Histogram(
            "dugs_similarity",
            "Cosine of a sample to its nearest unique.",
            buckets=_COSINES,
            registry=registry,
        )
        self._gradient_norm = Histogram(
            "dugs_gradient_norm", "Norm of the projected gradient.", buckets=_NORMS, registry=registry
        )
        self._uniques = Gauge("dugs_index_uniques", "Uniques in the index.", registry=registry)
        self._index_bytes = Gauge("dugs_index_bytes", "Memory of the index's vectors.", registry=registry)
        self._lag = Gauge(
            "dugs_consumer_lag_records",
            "Input records not yet polled.",
            ["topic", "partition"],
            registry=registry,
        )
        self._batch_records = Histogram(
            "dugs_batch_records", "Records in a micro-batch.", buckets=_RECORDS, registry=registry
        )
        self._commits = Counter(
            "dugs_commits", "Transactions, by how they ended.", ["outcome"], registry=registry
        )
        self._last_commit = Gauge(
            "dugs_last_commit_timestamp_seconds",
            "When this process last committed; 0 before its first.",
            registry=registry,
        )
        self._refused = Gauge(
            "dugs_refused",
            "1 while the process refuses to go on for this reason and is about to leave.",
            ["reason"],
            registry=registry,
        )
        self._offsets_disagreement = Gauge(
            "dugs_offsets_disagreement_records",
            "Records between the group's committed offsets and those the changelog says, either way.",
            registry=registry,
        )
        self._recoveries = Counter(
            "dugs_recoveries",
            "Times the state was rebuilt from the changelog.",
            ["reason"],
            registry=registry,
        )
        self._recovery_seconds = Histogram(
            "dugs_recovery_duration_seconds", "Time one recovery took.", buckets=_SECONDS, registry=registry
        )
        self.snapshot_age_seconds = Gauge(
            "dugs_snapshot_age_seconds",
            "Time since the disk last held all that was known.",
            registry=registry,
        )
        self._snapshots = Counter(
            "dugs_snapshots", "Tries to write a snapshot, by how they ended.", ["outcome"], registry=registry
        )
        self._state_damaged = Counter(
            "dugs_state_damaged",
            "Parts of the state folder found damaged and set aside.",
            ["kind"],
            registry=registry,
        )
        self._records_lost = Counter(
            "dugs_records_lost", "Input records deleted before they were decided.", registry=registry
        )
        self._batch_limit = Gauge(
            "dugs_batch_limit_records",
            "Records the next micro-batch may hold, by time and memory.",
            registry=registry,
        )
        self._out_of_memory = Counter(
            "dugs_out_of_memory", "Micro-batches halved because memory ran out.", registry=registry
        )
        self._up_to_date = Gauge(
            "dugs_up_to_date", "1 when the lag is within one micro-batch.", registry=registry
        )
        self._threshold = Gauge(
            "dugs_threshold",
            "The similarity from which on a record is a duplicate.",
            registry=registry,
        )
        self._role = Gauge("dugs_role", "1 for the role this process has.", ["role"], registry=registry)
        self._build = Gauge(
            "dugs_build_info",
            "What is running, as labels; the value is always 1.",
            ["version", "model", "fingerprint", "k", "threshold", "device"],
            registry=registry,
        )
        self._threshold.set(nan)  # zero would be a threshold; this is none until the model is there
        self._show_closed_sets()

    def _show_closed_sets(self) -> None:
        """Let every series of a closed set start at zero: a rate needs a first point before the first event."""
        for verdict in Verdict:
            self._records.labels(verdict=verdict)
        for reason in Reason:
            self._rejected.labels(reason=reason)
        for stage in Stage:
            self._stages.labels(stage=stage)
        for outcome in CommitOutcome:
            self._commits.labels(outcome=outcome)
        for ended in SnapshotOutcome:
            self._snapshots.labels(outcome=ended)
        for kind in DamagedKind:
            self._state_damaged.labels(kind=kind)
        for recovery in RecoveryReason:
            self._recoveries.labels(reason=recovery)
        for refusal in RefusalReason:
            self._refused.labels(reason=refusal)
        for label in (_OTHER_CLASSES, _NO_LABEL):
            self._uniques_by_label.labels(label=label)
        self.role_changed(Role.STANDBY)

    @contextmanager
    def stage(self, stage: str) -> Iterator[None]:
        """Time one stage of one micro-batch, also when it fails."""
        started = perf_counter()
        try:
            yield
        finally:
            self._stages.labels(stage=Stage(stage)).observe(perf_counter() - started)

    def batch_committed(self, judgements: Iterable[JudgedRecord]) -> None:
        """Count a committed micro-batch; nothing is counted before its commit."""
        batch = list(judgements)
        self._batch_records.observe(len(batch))
        self._commits.labels(outcome=CommitOutcome.COMMITTED).inc()
        self._last_commit.set_to_current_time()
        for judgement in batch:
            decision = judgement.decision
            self._records.labels(verdict=decision.verdict).inc()
            if decision.verdict is Verdict.UNIQUE:
                name = _label_value(judgement.label, judgement.label_name)
                self._uniques_by_label.labels(label=name).inc()
            if decision.rejection is not None:
                self._rejected.labels(reason=decision.rejection.reason).inc()
            if decision.similarity is not None:
                self._similarity.observe(decision.similarity)
            if decision.gradient_norm is not None:
                self._gradient_norm.observe(decision.gradient_norm)

    def classes_known(self, names: Sequence[str | None]) -> None:
        """Let the classes start at zero as the closed sets do; a class without a name goes by its number."""
        for number, name in enumerate(names[:_NAMED_CLASSES]):
            self._uniques_by_label.labels(label=_label_value(number, name))

    def batch_aborted(self) -> None:
        """Count a transaction that was given up."""
        self._commits.labels(outcome=CommitOutcome.ABORTED).inc()

    def batch_limited(self, records: int) -> None:
        """Show how many records the next micro-batch may hold."""
        self._batch_limit.set(records)

    def ran_out_of_memory(self) -> None:
        """Count a micro-batch that did not fit."""
        self._out_of_memory.inc()

    def records_lost(self, records: int) -> None:
        """Count input records that were deleted before they could be decided."""
        self._records_lost.inc(records)

    def snapshot_ended(self, outcome: SnapshotOutcome) -> None:
        """Count a try to write a snapshot."""
        self._snapshots.labels(outcome=outcome).inc()

    def state_damaged(self, kind: DamagedKind) -> None:
        """Count a part of the state folder that could not be believed."""
        self._state_damaged.labels(kind=kind).inc()

    def index_grew(self, uniques: int, dimension: int) -> None:
        """Show the size of the index: uniques rows of dimension float32."""
        self._uniques.set(uniques)
        self._index_bytes.set(uniques * dimension * 4)

    def lag_changed(self, topic: str, lag: Mapping[int, int], batch_records: int) -> None:
        """Show the lag of each partition, and whether one micro-batch of this size would clear it all."""
        for partition, records in lag.items():
            self._lag.labels(topic=topic, partition=partition).set(records)
        self._up_to_date.set(1 if sum(lag.values()) <= batch_records else 0)

    def offsets_compared(self, records: int) -> None:
        """Show how many records lie between the group's offsets and the changelog's; 0 is as it should be."""
        self._offsets_disagreement.set(records)

    def refused(self, reason: RefusalReason) -> None:
        """Show that this process will not go on; it stays so until the process ends."""
        self._refused.labels(reason=reason).set(1)

    def recovered(self, reason: RecoveryReason, seconds: float) -> None:
        """Count a recovery and its time."""
        self._recoveries.labels(reason=reason).inc()
        self._recovery_seconds.observe(seconds)

    def role_changed(self, role: Role) -> None:
        """Show the one role this process has now."""
        for each in Role:
            self._role.labels(role=each).set(1 if each is role else 0)

    def built(self, facts: BuildFacts) -> None:
        """Show what is running."""
        self._threshold.set(facts.threshold)
        self._build.labels(
            version=facts.version,
            model=facts.model,
            fingerprint=facts.fingerprint,
            k=str(facts.k),
            threshold=str(facts.threshold),
            device=facts.device,
        ).set(1)


def _label_value(number: int | None, name: str | None) -> str:
    """A class as a label value, the same in every life and instance: which classes share a series is no matter of luck."""
    if number is None:
        return _NO_LABEL
    if not 0 <= number < _NAMED_CLASSES:
        return _OTHER_CLASSES
    return str(number) if name is None else name
