"""Who watches a daemon: its metrics, its status with the service manager, its log lines, its page, and a hook for steps."""

from __future__ import annotations

from dugs_stream.changelog.replay import ChangelogHead
from dugs_stream.daemon.log_lines import LogLines
from dugs_stream.daemon.observers import Observer, Observers
from dugs_stream.daemon.steps import OnStep, RecoveryStep, Step
from dugs_stream.errors import (
    ChangelogError,
    LogUnavailableError,
    OffsetsDisagreeError,
    StateError,
    TransactionAbortedError,
)
from dugs_stream.ops.gallery.recorder import Gallery
from dugs_stream.ops.metrics import (
    DamagedKind,
    Metrics,
    RecoveryReason,
    RefusalReason,
    Role,
    SnapshotOutcome,
)
from dugs_stream.ops.status import Status
from dugs_stream.ops.systemd import ServiceNotices
from dugs_stream.pipeline.encode import EncodedBatch
from dugs_stream.state.files import LoadedState
from dugs_stream.state.store import SnapshotResult


class MetricsWatcher(Observer):
    """Counts and measures. `dimension` is that of the index's vectors."""

    def __init__(self, metrics: Metrics, dimension: int) -> None:
        self._metrics = metrics
        self._dimension = dimension

    def role_changed(self, role: Role) -> None:
        self._metrics.role_changed(role)

    def ownership_voided(self, error: Exception) -> None:
        if isinstance(error, TransactionAbortedError):
            self._metrics.batch_aborted()

    def state_loaded(self, loaded: LoadedState) -> None:
        for _ in loaded.set_aside:
            self._metrics.state_damaged(DamagedKind.MANIFEST)
        for missing in loaded.missing:
            is_vectors = missing.file.startswith("vectors")
            self._metrics.state_damaged(DamagedKind.VECTORS if is_vectors else DamagedKind.EVENTS)

    def head_moved(self, head: ChangelogHead) -> None:
        self._metrics.index_grew(head.uniques, self._dimension)

    def recovered(self, reason: RecoveryReason, seconds: float, head: ChangelogHead) -> None:
        self._metrics.recovered(reason, seconds)

    def records_lost(self, records: int) -> None:
        self._metrics.records_lost(records)

    def lag_changed(self, topic: str, lag: dict[int, int], batch_records: int) -> None:
        self._metrics.lag_changed(topic, lag, batch_records)

    def offsets_compared(self, records: int) -> None:
        self._metrics.offsets_compared(records)

    def batch_judged(self, limit: int) -> None:
        self._metrics.batch_limited(limit)

    def batch_halved(self, records: int, limit: int, error: Exception) -> None:
        self._metrics.ran_out_of_memory()
        self._metrics.batch_limited(limit)

    def batch_committed(self, batch: EncodedBatch, head: ChangelogHead) -> None:
        self._metrics.batch_committed(batch.judged)

    def snapshot_written(self, snapshot: SnapshotResult) -> None:
        self._metrics.snapshot_ended(SnapshotOutcome.WRITTEN)

    def snapshot_failed(self, error: StateError) -> None:
        self._metrics.snapshot_ended(SnapshotOutcome.FAILED)

    def refused(self, error: ChangelogError, seconds: float) -> None:
        disagree = isinstance(error, OffsetsDisagreeError)
        self._metrics.refused(RefusalReason.OFFSETS_DISAGREE if disagree else RefusalReason.CHANGELOG)


class StatusWatcher(Observer):
    """Shows on /readyz what is missing, on /api/status what is true, and to the service manager that the thread moves."""

    def __init__(self, status: Status, notices: ServiceNotices) -> None:
        self._status = status
        self._notices = notices

    def step_entered(self, step: Step | RecoveryStep) -> None:
        self.alive()

    def alive(self) -> None:
        self._notices.alive(self._status)

    def role_changed(self, role: Role) -> None:
        self._status.role_changed(role)

    def log_reached(self) -> None:
        self._status.has("log")

    def log_unavailable(self, error: LogUnavailableError) -> None:
        self._status.lacks("log", f"{error.cause}: {error}")

    def ownership_voided(self, error: Exception) -> None:
        if isinstance(error, LogUnavailableError):
            self.log_unavailable(error)

    def state_outdated(self) -> None:
        self._status.lacks("state", "being recovered from the changelog")

    def head_moved(self, head: ChangelogHead) -> None:
        self._status.has("state")
        self._status.learned(
            uniques=head.uniques,
            checksum=head.checksum,
            changelog_position=head.position,
            next_offsets=dict(head.next_offsets),
        )

    def lag_changed(self, topic: str, lag: dict[int, int], batch_records: int) -> None:
        self._status.learned(lag=sum(lag.values()))

    def refused(self, error: ChangelogError, seconds: float) -> None:
        self._status.lacks("changelog", str(error))

    def shutting_down(self) -> None:
        self._status.lacks("state", "shutting down")
        self._notices.stopping("shutting down: last snapshot")


class StepHook(Observer):
    """A function that is told each step."""

    def __init__(self, on_step: OnStep) -> None:
        self._on_step = on_step

    def step_entered(self, step: Step | RecoveryStep) -> None:
        self._on_step(step)


class GalleryWatcher(Observer):
    """Keeps pictures and counts for the page."""

    def __init__(self, gallery: Gallery) -> None:
        self._gallery = gallery

    def batch_committed(self, batch: EncodedBatch, head: ChangelogHead) -> None:
        self._gallery.saw(batch.judged)


class Watchers(Observers):
    """The observers of a daemon; `metrics` and `status` are what its HTTP server shows."""

    def __init__(
        self, metrics: Metrics, status: Status, notices: ServiceNotices, dimension: int, *others: Observer
    ) -> None:
        super().__init__(
            MetricsWatcher(metrics, dimension), StatusWatcher(status, notices), LogLines(), *others
        )
        self.metrics = metrics
        self.status = status
