"""The observers of every daemon as tables, event by event: its metrics, its status, its log lines."""

from __future__ import annotations

from dugs_stream.changelog.replay import ChangelogHead
from dugs_stream.daemon.log_lines import LogLines
from dugs_stream.daemon.observers import Observer, Observers
from dugs_stream.daemon.steps import RecoveryStep, Step
from dugs_stream.errors import LogUnavailableError, OffsetsDisagreeError, TransactionAbortedError
from dugs_stream.ops.metrics import DamagedKind, Metrics, RefusalReason, SnapshotOutcome
from dugs_stream.ops.status import Status
from dugs_stream.ops.systemd import ServiceNotices
from dugs_stream.state.files import LoadedState

# Steps that are nothing but waiting for the log; a poll waits for records too.
_WAITS_FOR_THE_LOG = frozenset({Step.BEGIN, Step.PUBLISH, Step.OFFSETS, Step.COMMIT})


class Watchers(Observers):
    """What watches a daemon; `metrics` and `status` are what its HTTP server shows."""

    def __init__(
        self, metrics: Metrics, status: Status, notices: ServiceNotices, dimension: int, *others: Observer
    ) -> None:
        shown = (watch_by_metrics(metrics, dimension), watch_by_status(status, notices))
        super().__init__(*shown, LogLines().observer, *others)
        self.metrics = metrics
        self.status = status


def watch_by_metrics(metrics: Metrics, dimension: int) -> Observer:
    """Counts and measures; `dimension` is that of the index's vectors."""

    def state_loaded(loaded: LoadedState) -> None:
        for _ in loaded.set_aside:
            metrics.state_damaged(DamagedKind.MANIFEST)
        for missing in loaded.missing:
            is_vectors = missing.file.startswith("vectors")
            metrics.state_damaged(DamagedKind.VECTORS if is_vectors else DamagedKind.EVENTS)

    def ownership_voided(error: Exception) -> None:
        if isinstance(error, TransactionAbortedError):
            metrics.batch_aborted()

    def batch_halved(_records: int, limit: int, _error: str) -> None:
        metrics.ran_out_of_memory()
        metrics.batch_limited(limit)

    return Observer(
        role_changed=metrics.role_changed,
        ownership_voided=ownership_voided,
        state_loaded=state_loaded,
        head_moved=lambda head: metrics.index_grew(head.uniques, dimension),
        recovered=lambda reason, seconds, _head: metrics.recovered(reason, seconds),
        records_lost=metrics.records_lost,
        lag_changed=metrics.lag_changed,
        input_held_back=metrics.input_held_back,
        offsets_compared=metrics.offsets_compared,
        batch_judged=metrics.batch_limited,
        batch_halved=batch_halved,
        batch_committed=lambda batch, _head: metrics.batch_committed(batch.judged),
        snapshot_written=lambda _snapshot: metrics.snapshot_ended(SnapshotOutcome.WRITTEN),
        snapshot_failed=lambda _error: metrics.snapshot_ended(SnapshotOutcome.FAILED),
        refused=lambda error, _seconds: metrics.refused(
            RefusalReason.OFFSETS_DISAGREE
            if isinstance(error, OffsetsDisagreeError)
            else RefusalReason.CHANGELOG
        ),
    )


def watch_by_status(status: Status, notices: ServiceNotices) -> Observer:
    """On /readyz what is missing, on /api/status what is true, and to the service manager that the thread moves."""

    def lacks_log(error: Exception) -> None:
        if isinstance(error, LogUnavailableError):
            status.lacks("log", f"{error.cause}: {error}")

    def head_moved(head: ChangelogHead) -> None:
        status.has("state")
        status.learned(
            uniques=head.uniques,
            checksum=head.checksum,
            changelog_position=head.position,
            next_offsets=dict(head.next_offsets),
        )

    def shutting_down() -> None:
        status.lacks("state", "shutting down")
        notices.stopping("shutting down: last snapshot")

    def step_entered(step: Step | RecoveryStep) -> None:
        notices.alive(status)
        status.awaits_log(step if step in _WAITS_FOR_THE_LOG else None)

    return Observer(
        step_entered=step_entered,
        log_awaited=status.awaits_log,
        alive=lambda: notices.alive(status),
        role_changed=status.role_changed,
        log_reached=lambda: status.has("log"),
        log_unavailable=lacks_log,
        ownership_voided=lacks_log,
        state_outdated=lambda: status.lacks("state", "being recovered from the changelog"),
        head_moved=head_moved,
        lag_changed=lambda _topic, lag, _batch_records: status.learned(lag=sum(lag.values())),
        refused=lambda error, _seconds: status.lacks("changelog", str(error)),
        shutting_down=shutting_down,
    )
