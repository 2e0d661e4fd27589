"""The life of a daemon: own the input, recover, then decide and commit until told to stop.

    run       reach the log → stand by → own → recover → loop, again from the top when ownership is void
    loop      poll → project → decide → encode → commit → apply, the next micro-batches ahead of the one in hand (loop.py)
    shutdown  snapshot, give the input back

It sees ports and never an engine. A process that does not own the input stands by: it follows the changelog with an
index of its own, so that a takeover has little left to replay. The steps of commit and recovery have names
(steps.py); an error inside them leads back through the same recovery as a fresh start, and if an outcome is not known
the process leaves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from time import monotonic
from typing import Literal

import structlog

from dugs_stream.changelog.replay import ChangelogHead
from dugs_stream.changelog.resume import InputTopic, Resumption, check_trailer, resume
from dugs_stream.daemon.loop import Loop, Stages
from dugs_stream.daemon.observers import Watchers
from dugs_stream.daemon.patience import LONGEST_RETRY_SECONDS, patience
from dugs_stream.daemon.replica import Replica
from dugs_stream.daemon.signals import Stopping
from dugs_stream.daemon.steps import RecoveryStep
from dugs_stream.errors import (
    ChangelogError,
    DamagedRowsError,
    DugsError,
    LogRefusedError,
    LogUnavailableError,
    OwnershipLostError,
    TransactionAbortedError,
)
from dugs_stream.log.port import BatchLimits, Log, Ownership
from dugs_stream.ops.metrics import RecoveryReason, Role
from dugs_stream.pipeline.decode import BatchAbandonedError
from dugs_stream.state.store import StateStore

_log = structlog.get_logger("dugs")

# Prometheus scrapes once a minute by default. After a refusal the next start would be refused just the same, so nothing
# is lost by being slow, and a supervisor's restarts become rarer.
_LINGER_SECONDS = 75.0
# The service manager wants a sign of life, and a stop an answer.
_LOOK_SECONDS = 1.0


class Daemon:
    """One process's life beside a log. Build it with `app.daemon.open_daemon`; call `run` once, from the main thread.

    `start` is where a group without offsets begins to read, `prefetch` as Loop and `index_device` as UniqueIndex takes it. The watchers hear all that
    happens, and decide nothing.
    """

    def __init__(
        self,
        log: Log,
        state: StateStore,
        stages: Stages,
        limits: BatchLimits,
        start: Literal["earliest", "latest"],
        watchers: Watchers,
        stopping: Stopping,
        prefetch: int = 0,
        index_device: str | None = None,
    ) -> None:
        self.log = log
        self.state = state
        self.watchers = watchers
        self.metrics, self.status = watchers.metrics, watchers.status
        self.status.cut_off_seconds = log.cut_off_seconds
        self._tell = watchers.tell
        self.stopping = stopping
        self.replica = Replica(
            log, state, stages.projector.spec.dimension, stages.outputs, self._tell, index_device
        )
        self.loop = Loop(log, stages, self.replica, limits, self._tell, stopping, prefetch)
        self._outputs = stages.outputs
        self._start = start
        self._is_prepared = False
        self._is_one_shot = False
        self._refused_at = -LONGEST_RETRY_SECONDS
        self._lost_up_to: dict[int, int] = {}

    @property
    def next_offsets(self) -> Mapping[int, int]:
        """Per input partition, the offset of the next record to decide; empty before recovery."""
        return self.loop.head.next_offsets

    # -- life ------------------------------------------------------------------------------------------

    def run(self, *, drain: bool = False, adopt_offsets: bool = False) -> None:
        """Live until told to stop, or with `drain` until the input's end as of the first recovery is decided.

        With `adopt_offsets` the life is one commit of no record, whose trailer takes the group's offsets as they are.
        """
        reason = RecoveryReason.START
        self._is_one_shot = drain or adopt_offsets
        drain_to: Mapping[int, int] | None = None
        try:
            self.replica.load()
            while not self.stopping.requested:
                try:
                    ownership = self._own()
                    if ownership is None:
                        break
                    head = self._recover(ownership, reason, adopt_offsets=adopt_offsets)
                    if adopt_offsets:
                        self.loop.commit_no_records(head)
                        break
                    if drain and drain_to is None:
                        drain_to = ownership.ends
                    self.loop.run(head, drain_to, owes_trailer=self.state.trailer is None)
                except BatchAbandonedError:
                    _log.warning("batch.abandoned", why="told to stop; nothing of it was committed")
                except (OwnershipLostError, TransactionAbortedError, LogUnavailableError) as error:
                    if self._gives_up_on(error):
                        raise
                    reason = self._ownership_is_void(error)
                    continue
                except DamagedRowsError as error:
                    reason = self._rows_are_damaged(error)
                    continue
                break
        finally:
            self._shut_down()

    def _own(self) -> Ownership | None:
        """Reach the log with patience, then wait until the input is ours. None when told to stop."""
        patient = patience(
            self.stopping.event,
            lambda error: isinstance(error, LogUnavailableError) and not self._gives_up_on(error),
            self._log_is_unavailable,
        )
        return patient(self._prepare_and_acquire)

    def _gives_up_on(self, error: BaseException) -> bool:
        """A daemon waits for passwords and permissions to be fixed; a one-shot run that is refused has failed."""
        return self._is_one_shot and isinstance(error, LogRefusedError)

    def _prepare_and_acquire(self) -> Ownership | None:
        if not self._is_prepared:
            self.log.prepare()
            self._is_prepared = True
            self._tell.log_reached()
        self._tell.role_changed(Role.STANDBY)
        self._tell.step_entered(RecoveryStep.ACQUIRE)
        return self.log.acquire(self._is_to_stop, self._stand_by)

    def _is_to_stop(self) -> bool:
        """Asked twice a second during a wait without limit."""
        self._tell.alive()
        return self.stopping.requested

    def _stand_by(self) -> None:
        """Keep the index warm while another process owns the input; ready as soon as it is for the first time."""
        self.loop.use_idle_time()
        self._tell.log_awaited("the changelog")
        has_followed = self.replica.follow()
        self._tell.log_awaited(None)
        if has_followed:
            self._tell.head_moved(self.state.head)
            self.replica.snapshot_if_due()
            self.loop.lag.look_as_standby(self.state.head.next_offsets)

    def _log_is_unavailable(self, error: BaseException) -> None:
        self._is_prepared = False
        self._tell.alive()
        if isinstance(error, LogUnavailableError):
            self._tell.log_unavailable(error)

    def _ownership_is_void(self, error: Exception) -> RecoveryReason:
        """What was polled or half written is void; what this process knows stands at a trailer and stays."""
        self._tell.ownership_voided(error)
        if isinstance(error, OwnershipLostError):
            return RecoveryReason.OWNERSHIP_LOST
        self._is_prepared = False
        if isinstance(error, LogRefusedError):
            # The look before owning finds what is missing and waits. Should it ever not, this batch fails without end.
            if monotonic() - self._refused_at < LONGEST_RETRY_SECONDS:
                self.stopping.event.wait(LONGEST_RETRY_SECONDS)
            self._refused_at = monotonic()
        is_aborted = isinstance(error, TransactionAbortedError)
        return RecoveryReason.ABORTED if is_aborted else RecoveryReason.LOG_UNAVAILABLE

    def _rows_are_damaged(self, error: DamagedRowsError) -> RecoveryReason:
        """No decision was made from them: the batch is void, and the recovery refills them from the changelog."""
        self._tell.ownership_voided(error)
        self.replica.reload(error)
        return RecoveryReason.DAMAGED

    def _shut_down(self) -> None:
        self._tell.shutting_down()
        self.loop.close()
        try:
            self.replica.snapshot(with_graph=True)
        except DamagedRowsError as error:
            self._tell.snapshot_failed(error)
        self.log.close()
        self.state.close()
        _log.info("daemon.stopped", uniques=len(self.replica.index))

    # -- recovery --------------------------------------------------------------------------------------

    def _recover(self, ownership: Ownership, reason: RecoveryReason, *, adopt_offsets: bool) -> ChangelogHead:
        """Bring the state to the changelog's end, hold it against the group's offsets, and seek."""
        started = monotonic()
        self._tell.role_changed(Role.RECOVERING)
        if not self.replica.is_warm:
            self._tell.state_outdated()
        self.replica.catch_up(ownership.changelog_start, ownership.changelog_end)
        self._tell.step_entered(RecoveryStep.RESUME)
        resumption = self._resume(ownership, adopt_offsets=adopt_offsets)
        self._count_lost(resumption)
        known = self.state.head
        topic_id = ownership.input_topic_id or known.input_topic_id
        head = replace(known, next_offsets=resumption.next_offsets, input_topic_id=topic_id)
        self._tell.step_entered(RecoveryStep.SEEK)
        self.log.seek(head.next_offsets)
        self._tell.role_changed(Role.OWNER)
        self._tell.head_moved(known)
        self._tell.recovered(reason, monotonic() - started, head)
        return head

    def _resume(self, ownership: Ownership, *, adopt_offsets: bool) -> Resumption:
        """Hold the last trailer against the configuration and the group. Raises ChangelogError if they differ."""
        topic = InputTopic(
            self._outputs.topics.input, ownership.input_topic_id, ownership.beginnings, ownership.ends
        )
        trailer = self.state.trailer
        try:
            remarks = () if trailer is None else check_trailer(trailer, self._outputs.deployment, topic)
            if trailer is not None and adopt_offsets:
                trailer = replace(trailer, next_offsets={**trailer.next_offsets, **ownership.committed})
            resumption = resume(trailer, ownership.committed, topic, self._start)
        except ChangelogError:
            self.replica.is_warm = False  # a changelog that is refused is not written into the state folder
            raise
        for remark in (*remarks, *resumption.remarks):
            _log.warning("recovery.remark", remark=remark)
        return resumption

    def _count_lost(self, resumption: Resumption) -> None:
        """Each record that retention took is counted once, however often recovery passes the gap."""
        for partition, gone in resumption.lost.items():
            known = max(gone.start, self._lost_up_to.get(partition, 0))
            self._tell.records_lost(max(0, gone.stop - known))
            self._lost_up_to[partition] = gone.stop


def linger_after_refusal(daemon: Daemon, error: DugsError, seconds: float = _LINGER_SECONDS) -> None:
    """Show the refusal until `seconds` are over or the process is told to stop; `daemon.run` must have ended.

    Under a supervisor a refused daemon starts, refuses and leaves within seconds, over and over, and between two
    scrapes nothing of it can be seen. So, with log and state folder closed, it answers /metrics with `dugs_refused`
    and /readyz with the reason.
    """
    daemon.watchers.tell.refused(error, seconds)
    for _ in range(int(seconds / _LOOK_SECONDS)):
        daemon.watchers.tell.alive()
        if daemon.stopping.event.wait(_LOOK_SECONDS):
            return
