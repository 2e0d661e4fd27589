"""Log lines of the daemon: its life as events, and one summary for each micro-batch; a record has no line of its own.

Every line written while a micro-batch is in hand carries `batch`, its number since the start of this process, and
`offsets`, the input it is made of; once it is committed also `commit`, the changelog's end after it, which is the same
number for every instance of the deployment and in /api/status.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from time import monotonic

import structlog
from structlog.contextvars import bind_contextvars, unbind_contextvars

from dugs_stream.changelog.replay import ChangelogHead
from dugs_stream.core.index.report import IndexReport
from dugs_stream.daemon.steps import RecoveryStep, Step
from dugs_stream.errors import DugsError, LogUnavailableError, OwnershipLostError, StateError
from dugs_stream.log.port import Polled
from dugs_stream.ops.metrics import DamagedKind, RecoveryReason
from dugs_stream.pipeline.in_flight import offsets_of
from dugs_stream.records import JudgedRecord, Reason, Verdict
from dugs_stream.state.store import SnapshotResult

_log = structlog.get_logger("dugs")

# Labelled records after which the model's accuracy is said.
_MEASURED_AT = (32, 256)


class LogLines:
    """Writes a line for each event that it has a method for, and numbers the micro-batches of this process."""

    def __init__(self) -> None:
        self._number = 0
        self._began_at = monotonic()
        self._said_unavailable = ""
        self._measured = 0
        self._has_said_truncated = False
        self._said_left = ""

    def step_entered(self, step: Step | RecoveryStep) -> None:
        _log.debug("daemon.step", step=step)

    def log_reached(self) -> None:
        self._said_unavailable = ""

    def log_unavailable(self, error: LogUnavailableError) -> None:
        # The same cause again is not news, and /readyz shows it all the time.
        if self._said_unavailable != str(error):
            self._said_unavailable = str(error)
            then = "trying again until it answers"
            _log.error("log.unavailable", cause=error.cause, error=str(error), then=then)

    def ownership_voided(self, error: Exception) -> None:
        if isinstance(error, OwnershipLostError):
            _log.info("ownership.asked_again", why=str(error))  # a standby that comes or goes is not news
        else:
            _log.warning("ownership.void", error=str(error), kind=type(error).__name__)

    def state_damaged(self, kind: DamagedKind, file: str) -> None:
        if kind is DamagedKind.MANIFEST:
            _log.warning("state.damaged", set_aside=file, then="the changelog restores what it held")
        else:
            _log.warning("state.damaged", file=file, then="its rows come from the changelog")

    def recovered(self, reason: RecoveryReason, seconds: float, head: ChangelogHead) -> None:
        offsets = dict(head.next_offsets)
        _log.info("daemon.ready", reason=reason, seconds=round(seconds, 3), next_offsets=offsets)

    def batch_polled(self, polled: Polled) -> None:
        self._number += 1
        self._began_at = monotonic()
        bind_contextvars(batch=self._number, offsets=offsets_of(polled))

    def batch_halved(self, records: int, limit: int, error: str) -> None:
        if records > 1:
            _log.warning("batch.halved", records=records, then=limit, error=error)

    def batch_committed(self, judged: Sequence[JudgedRecord], head: ChangelogHead) -> None:
        bind_contextvars(commit=int(head.position))
        verdicts = Counter(each.decision.verdict for each in judged)
        _log.info(
            "batch.committed",
            records=len(judged),
            **{verdict.value: verdicts[verdict] for verdict in Verdict},
            uniques=head.uniques,
            seconds=round(monotonic() - self._began_at, 3),
        )
        if verdicts[Verdict.REJECTED]:
            _say_why(judged)
        cut = [each.record.id for each in judged if each.is_cut]
        if cut and not self._has_said_truncated:
            self._has_said_truncated = True
            then = "verdicts are about their beginnings; dugs_truncated_total counts on"
            _log.warning("text.truncated", records=len(cut), of=len(judged), first=cut[0], then=then)

    def model_measured(self, right: int, records: int, classes: int) -> None:
        """Twice: soon, and once it is certain. A model that knows its classes is right far more often than by chance."""
        steps = [step for step in _MEASURED_AT if self._measured < step <= records]
        if not steps:
            return
        self._measured = records
        facts = {"accuracy": round(right / records, 3), "records": records, "chance": round(1 / classes, 3)}
        if right / records < min(2 / classes, 0.5):
            why = "an untrained model, or input.classes or the labels are not in the order of the model's outputs"
            _log.warning("model.disagrees", **facts, why=why)
        else:
            _log.info("model.agrees", **facts)

    def batch_ended(self) -> None:
        unbind_contextvars("batch", "offsets", "commit")

    def index_reported(self, report: IndexReport) -> None:
        if report.device_left is not None and report.device_left != self._said_left:
            self._said_left = report.device_left
            then = "the nearest unique is searched for on the CPU; no verdict depends on it"
            _log.warning("index.device_left", device=report.device, why=report.device_left, then=then)

    def snapshot_written(self, snapshot: SnapshotResult) -> None:
        seconds = round(snapshot.seconds, 3)
        _log.info("snapshot.written", rows=snapshot.rows, new=snapshot.new_rows, seconds=seconds)

    def snapshot_failed(self, error: StateError) -> None:
        then = "deciding goes on; the changelog holds everything"
        _log.error("snapshot.failed", error=str(error), then=then)

    def refused(self, error: DugsError, seconds: float) -> None:
        then = f"leaving in {seconds:.0f} s, at once when told to stop"
        _log.error("daemon.refused", error=str(error), then=then)


def _say_why(judged: Sequence[JudgedRecord]) -> None:
    """One line a reason with the first record rejected for it, so that a flood of one does not hide another."""
    rejected: dict[Reason, list[tuple[str, str]]] = {}
    for each in judged:
        if (rejection := each.decision.rejection) is not None:
            rejected.setdefault(rejection.reason, []).append((each.record.id, rejection.error))
    for reason, records in rejected.items():
        first, error = records[0]
        _log.warning("records.rejected", reason=reason.value, records=len(records), first=first, error=error)
