"""Log lines of the daemon: its life as events, and one summary for each micro-batch; a record has no line of its own.

Every line written while a micro-batch is in hand carries `batch`, its number since the start of this process, and
`offsets`, the input it is made of; once it is committed also `commit`, the changelog's end after it, which is the same
number for every instance of the deployment and in /api/status.
"""

from __future__ import annotations

from collections import Counter
from time import monotonic

import structlog
from structlog.contextvars import bind_contextvars, unbind_contextvars

from dugs_stream.changelog.replay import ChangelogHead
from dugs_stream.daemon.observers import Observer
from dugs_stream.errors import ChangelogError, LogUnavailableError, OwnershipLostError, StateError
from dugs_stream.log.port import Polled
from dugs_stream.ops.metrics import RecoveryReason
from dugs_stream.pipeline.encode import EncodedBatch, ranges_of
from dugs_stream.records import Rejection, Verdict
from dugs_stream.state.files import LoadedState
from dugs_stream.state.store import SnapshotResult

_log = structlog.get_logger("dugs")

# Partitions whose offsets a line names; a batch of more says how many there are.
_MOST_NAMED = 8


class LogLines:
    """Writes the lines, and numbers the micro-batches of this process."""

    def __init__(self) -> None:
        self._number = 0
        self._began_at = monotonic()
        self._said_unavailable = ""

    @property
    def observer(self) -> Observer:
        """The events that have a line."""
        return Observer(
            step_entered=lambda step: _log.debug("daemon.step", step=step),
            log_reached=self._log_reached,
            log_unavailable=self._log_unavailable,
            ownership_voided=self._ownership_voided,
            state_loaded=self._state_loaded,
            recovered=self._recovered,
            batch_polled=self._batch_polled,
            batch_halved=self._batch_halved,
            batch_committed=self._batch_committed,
            batch_ended=self._batch_ended,
            snapshot_written=self._snapshot_written,
            snapshot_failed=self._snapshot_failed,
            refused=self._refused,
        )

    def _log_reached(self) -> None:
        self._said_unavailable = ""

    def _log_unavailable(self, error: LogUnavailableError) -> None:
        if self._said_unavailable != str(
            error
        ):  # the same cause again is not news, and /readyz shows it all the time
            self._said_unavailable = str(error)
            then = "trying again until it answers"
            _log.error("log.unavailable", cause=error.cause, error=str(error), then=then)

    def _ownership_voided(self, error: Exception) -> None:
        if isinstance(error, OwnershipLostError):
            _log.info("ownership.asked_again", why=str(error))  # a standby that comes or goes is not news
        else:
            _log.warning("ownership.void", error=str(error), kind=type(error).__name__)

    def _state_loaded(self, loaded: LoadedState) -> None:
        for path in loaded.set_aside:
            _log.warning("state.damaged", set_aside=str(path), then="the changelog restores what it held")
        for file in loaded.missing:
            _log.warning("state.damaged", file=file, then="its rows come from the changelog")

    def _recovered(self, reason: RecoveryReason, seconds: float, head: ChangelogHead) -> None:
        offsets = dict(head.next_offsets)
        _log.info("daemon.ready", reason=reason, seconds=round(seconds, 3), next_offsets=offsets)

    def _batch_polled(self, polled: Polled) -> None:
        self._number += 1
        self._began_at = monotonic()
        bind_contextvars(batch=self._number, offsets=_offsets(polled))

    def _batch_halved(self, records: int, limit: int, error: str) -> None:
        if records > 1:
            _log.warning("batch.halved", records=records, then=limit, error=error)

    def _batch_committed(self, batch: EncodedBatch, head: ChangelogHead) -> None:
        bind_contextvars(commit=int(head.position))
        verdicts = Counter(each.decision.verdict for each in batch.judged)
        _log.info(
            "batch.committed",
            records=len(batch.polled.records),
            **{verdict.value: verdicts[verdict] for verdict in Verdict},
            uniques=head.uniques,
            seconds=round(monotonic() - self._began_at, 3),
        )
        if verdicts[Verdict.REJECTED]:
            _say_why(batch)

    def _batch_ended(self) -> None:
        unbind_contextvars("batch", "offsets", "commit")

    def _snapshot_written(self, snapshot: SnapshotResult) -> None:
        seconds = round(snapshot.seconds, 3)
        _log.info("snapshot.written", rows=snapshot.rows, new=snapshot.new_rows, seconds=seconds)

    def _snapshot_failed(self, error: StateError) -> None:
        then = "deciding goes on; the changelog holds everything"
        _log.error("snapshot.failed", error=str(error), then=then)

    def _refused(self, error: ChangelogError, seconds: float) -> None:
        then = f"leaving in {seconds:.0f} s, at once when told to stop"
        _log.error("daemon.refused", error=str(error), then=then)


def _say_why(batch: EncodedBatch) -> None:
    """One line a reason with the first record rejected for it, so that a flood of one does not hide another."""
    firsts: dict[str, tuple[str, Rejection]] = {}
    reasons: Counter[str] = Counter()
    for each in batch.judged:
        rejection = each.decision.rejection
        if rejection is not None:
            firsts.setdefault(rejection.reason.value, (each.record.id, rejection))
            reasons[rejection.reason.value] += 1
    for reason, (record, rejection) in firsts.items():
        _log.warning(
            "records.rejected", reason=reason, records=reasons[reason], first=record, error=rejection.error
        )


def _offsets(polled: Polled) -> str:
    """First and last offset a partition, as 0:1041-1296; an empty one (a trailer alone) has none."""
    ranges = ranges_of(polled)
    named = [f"{partition}:{first}-{last}" for partition, (first, last) in list(ranges.items())[:_MOST_NAMED]]
    return " ".join(
        [*named, *([f"and {len(ranges) - _MOST_NAMED} more"] if len(ranges) > _MOST_NAMED else [])]
    )
