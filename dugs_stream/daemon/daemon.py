"""The daemon's life, as a timeline: own the input, recover, then decide and commit until told to stop.

    run       reach the log → stand by → own → recover → loop, from the top again after whatever voids ownership
    loop      poll → judge → commit → apply, one micro-batch after the other
    shutdown  snapshot, give the input back

It sees ports and never an engine. Whoever does not own the input stands by: it follows the changelog with an
index of its own, and has little left to replay when its turn comes. The commit protocol's seven steps and those of
recovery have names (steps.py); whatever goes wrong inside them leads back through the same recovery as a fresh
start, and where an outcome is not known the process leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Literal

import structlog
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    sleep_using_event,
    stop_when_event_set,
    wait_random_exponential,
)

from dugs_stream.changelog.resume import InputTopic, Resumption, check_trailer, resume
from dugs_stream.core.index.unique_index import UniqueIndex
from dugs_stream.daemon.batch_log import BatchLines
from dugs_stream.daemon.lag import LagMonitor
from dugs_stream.daemon.pacing import Pacing
from dugs_stream.daemon.replica import Replica
from dugs_stream.daemon.signals import Stopping
from dugs_stream.daemon.steps import OnStep, RecoveryStep, Step
from dugs_stream.errors import (
    ChangelogError,
    LogRefusedError,
    LogUnavailableError,
    ModelError,
    OwnershipLostError,
    TransactionAbortedError,
)
from dugs_stream.log.port import BatchLimits, Committed, Log, Ownership, Polled
from dugs_stream.ops.metrics import Metrics, RecoveryReason, Role, Stage
from dugs_stream.ops.status import Status
from dugs_stream.ops.systemd import ServiceNotices
from dugs_stream.pipeline.encode import EncodedBatch, Outputs, Standing, encode_batch
from dugs_stream.pipeline.judge import Judge
from dugs_stream.pipeline.project import BatchAbandonedError, OutOfMemoryError, RecordProjector
from dugs_stream.records import JudgedRecord
from dugs_stream.state.store import StateStore

_log = structlog.get_logger("dugs")

# A broker restarts within seconds, so try again soon at first; ten seconds bound the wait after a long
# absence and the noise in the log while it lasts.
_FIRST_RETRY_SECONDS, _LONGEST_RETRY_SECONDS = 0.25, 10.0
# A snapshot saves replay time at the next start and costs a few file writes: every half minute is
# frequent enough for a restart of seconds and rare enough never to be seen in throughput.
_SNAPSHOT_SECONDS = 30.0
# A micro-batch ends within this, so that stopping and standing by stay a matter of seconds; and within a tenth of
# what the log lets an owner pause, so that even one that takes ten times as long as those before does no harm.
_LONGEST_BATCH_SECONDS, _SHARE_OF_PAUSE = 30.0, 0.1


@dataclass
class Daemon:
    """One process's life beside a log. Build it with `app.build_daemon`; call `run` once, from the main thread.

    on_step is told each step as it begins, for logs and for tests that kill there.
    on_committed is told each micro-batch once it is state; what it raises is logged once and changes nothing.
    """

    log: Log
    projector: RecordProjector
    judge: Judge
    state: StateStore
    outputs: Outputs
    limits: BatchLimits
    start: Literal["earliest", "latest"]
    metrics: Metrics
    status: Status
    stopping: Stopping
    on_step: OnStep = lambda _step: None
    on_committed: Callable[[EncodedBatch], None] = lambda _batch: None
    notices: ServiceNotices = field(default_factory=lambda: ServiceNotices({}))
    replica: Replica = field(init=False)
    _lookout: LagMonitor = field(init=False)
    _pacing: Pacing = field(init=False)
    _lines: BatchLines = field(default_factory=BatchLines, init=False)
    _is_prepared: bool = field(default=False, init=False)
    _is_one_shot: bool = field(default=False, init=False)
    _said_unavailable: str = field(default="", init=False)
    _refused_at: float = field(default=-_LONGEST_RETRY_SECONDS, init=False)
    _observer_failed: bool = field(default=False, init=False)
    _owes_trailer: bool = field(default=True, init=False)
    _next_offsets: dict[int, int] = field(default_factory=dict, init=False)
    _lost_up_to: dict[int, int] = field(default_factory=dict, init=False)
    _input_topic_id: str = field(default="", init=False)

    def __post_init__(self) -> None:
        index = UniqueIndex(self.projector.spec.dimension)
        self.replica = Replica(self.log, index, self.state, self.outputs, self.metrics, self._enter)
        self._lookout = LagMonitor(
            self.log, self.outputs.topics.input, self.limits.records, self.metrics, self.status
        )
        self._pacing = Pacing(
            self.limits.records,
            tile=self.projector.tile,
            target_seconds=min(_LONGEST_BATCH_SECONDS, _SHARE_OF_PAUSE * self.log.longest_pause_seconds),
        )

    @property
    def next_offsets(self) -> Mapping[int, int]:
        """Per input partition, the offset of the next record to decide; empty before recovery."""
        return self._next_offsets

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
                    self._recover(ownership, reason, adopt_offsets=adopt_offsets)
                    if adopt_offsets:
                        self._commit_no_records()
                        break
                    if drain and drain_to is None:
                        drain_to = ownership.ends
                    self._decide_until_stopped(drain_to)
                except BatchAbandonedError:
                    _log.warning("batch.abandoned", why="told to stop; nothing of it was committed")
                except (OwnershipLostError, TransactionAbortedError, LogUnavailableError) as error:
                    if self._gives_up_on(error):
                        raise
                    reason = self._ownership_is_void(error)
                    continue
                break
        finally:
            self._shut_down()

    def _own(self) -> Ownership | None:
        """Reach the log with patience, then wait until the input is ours. None when told to stop."""
        patience = Retrying(
            retry=retry_if_exception(
                lambda error: isinstance(error, LogUnavailableError) and not self._gives_up_on(error)
            ),
            wait=wait_random_exponential(_FIRST_RETRY_SECONDS, _LONGEST_RETRY_SECONDS),
            stop=stop_when_event_set(self.stopping.event),
            sleep=sleep_using_event(self.stopping.event),
            before_sleep=self._say_unavailable,
            retry_error_callback=lambda _state: None,
        )
        return patience(self._prepare_and_acquire)

    def _gives_up_on(self, error: BaseException) -> bool:
        """A daemon waits for a password or a permission to be put right; an errand that is refused has failed."""
        return self._is_one_shot and isinstance(error, LogRefusedError)

    def _prepare_and_acquire(self) -> Ownership | None:
        if not self._is_prepared:
            self.log.prepare()
            self._is_prepared = True
            self._said_unavailable = ""
            self.status.has("log")
        self._play(Role.STANDBY)
        self._enter(RecoveryStep.ACQUIRE)
        return self.log.acquire(self._is_to_stop, self._stand_by)

    def _is_to_stop(self) -> bool:
        """Asked twice a second by whatever waits without limit."""
        self._show_sign_of_life()
        return self.stopping.requested

    def _stand_by(self) -> None:
        """Keep the index warm while another process owns the input; ready as soon as it is for the first time."""
        if self.replica.follow():
            self.status.has("state")
            self._show_index()
            self.replica.snapshot_if_due(_SNAPSHOT_SECONDS)
            self._lookout.look_as_standby(
                {} if self.state.trailer is None else self.state.trailer.next_offsets
            )

    def _say_unavailable(self, attempt: RetryCallState) -> None:
        """Once a cause: the same one again is no news, and /readyz holds it all the time."""
        error = attempt.outcome.exception() if attempt.outcome is not None else None
        self._is_prepared = False
        self._show_sign_of_life()
        if isinstance(error, LogUnavailableError):
            self._lacks_log(error)
            if self._said_unavailable != str(error):
                self._said_unavailable = str(error)
                then = "trying again until it answers"
                _log.error("log.unavailable", cause=error.cause, error=str(error), then=then)

    def _lacks_log(self, error: LogUnavailableError) -> None:
        self.status.lacks("log", f"{error.cause}: {error}")

    def _ownership_is_void(self, error: Exception) -> RecoveryReason:
        """Whatever was polled or half written is void; what this process knows stands at a trailer and stays."""
        if isinstance(error, OwnershipLostError):
            _log.info("ownership.asked_again", why=str(error))  # a standby that comes or goes is no news
            return RecoveryReason.OWNERSHIP_LOST
        self._is_prepared = False
        if isinstance(error, TransactionAbortedError):
            self.metrics.batch_aborted()
        _log.warning("ownership.void", error=str(error), kind=type(error).__name__)
        if isinstance(error, LogUnavailableError):
            self._lacks_log(error)
        if isinstance(error, LogRefusedError):
            # The look before owning finds what is missing and waits. Should it ever not, this batch fails without end.
            if monotonic() - self._refused_at < _LONGEST_RETRY_SECONDS:
                self.stopping.event.wait(_LONGEST_RETRY_SECONDS)
            self._refused_at = monotonic()
        is_aborted = isinstance(error, TransactionAbortedError)
        return RecoveryReason.ABORTED if is_aborted else RecoveryReason.LOG_UNAVAILABLE

    def _shut_down(self) -> None:
        self.status.lacks("state", "shutting down")
        self.notices.stopping("shutting down: last snapshot")
        self.replica.snapshot(with_graph=True)
        self.log.close()
        self.state.close()
        _log.info("daemon.stopped", uniques=len(self.replica.index))

    def _play(self, role: Role) -> None:
        self.metrics.role_changed(role)
        self.status.role_changed(role)

    # -- recovery --------------------------------------------------------------------------------------

    def _recover(self, ownership: Ownership, reason: RecoveryReason, *, adopt_offsets: bool) -> None:
        """Bring the state to the changelog's end, hold it against the group's offsets, and seek."""
        started = monotonic()
        self._play(Role.RECOVERING)
        if not self.replica.is_warm:
            self.status.lacks("state", "being recovered from the changelog")
        self.replica.catch_up(ownership.changelog_start, ownership.changelog_end)
        self._enter(RecoveryStep.RESUME)
        resumption = self._resume(ownership, adopt_offsets=adopt_offsets)
        self._count_lost(resumption)
        self._next_offsets = dict(resumption.next_offsets)
        self._input_topic_id = ownership.input_topic_id
        self._owes_trailer = adopt_offsets or self.state.trailer is None
        self._enter(RecoveryStep.SEEK)
        self.log.seek(self._next_offsets)
        self._now_owner(reason, monotonic() - started)

    def _resume(self, ownership: Ownership, *, adopt_offsets: bool) -> Resumption:
        """Hold the last trailer against the configuration and the group. Raises ChangelogError where they differ."""
        topic = InputTopic(
            self.outputs.topics.input, ownership.input_topic_id, ownership.beginnings, ownership.ends
        )
        trailer = self.state.trailer
        try:
            remarks = () if trailer is None else check_trailer(trailer, self.outputs.deployment, topic)
            if trailer is not None and adopt_offsets:
                trailer = replace(trailer, next_offsets={**trailer.next_offsets, **ownership.committed})
            resumption = resume(trailer, ownership.committed, topic, self.start)
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
            self.metrics.records_lost(max(0, gone.stop - known))
            self._lost_up_to[partition] = gone.stop

    def _now_owner(self, reason: RecoveryReason, seconds: float) -> None:
        self.metrics.recovered(reason, seconds)
        self._show_index()
        self._play(Role.OWNER)
        self.status.has("state")
        _log.info("daemon.ready", reason=reason, seconds=round(seconds, 3), next_offsets=self._next_offsets)

    # -- loop ------------------------------------------------------------------------------------------

    def _decide_until_stopped(self, drain_to: Mapping[int, int] | None) -> None:
        while not self.stopping.requested:
            polled = self._poll()
            if polled.is_empty and not self._owes_trailer:
                if drain_to is not None and self._has_reached(drain_to):
                    return
                self.replica.snapshot_if_due(_SNAPSHOT_SECONDS)
                continue
            with self._lines.of(polled):
                judged = self._judge(polled)
                if judged is not None:
                    self._commit_and_apply(polled, judged)
            self.replica.snapshot_if_due(_SNAPSHOT_SECONDS)

    def _commit_no_records(self) -> None:
        """A transaction of its trailer alone."""
        self._enter(Step.POLL)
        polled = self.log.poll(replace(self.limits, records=0, wait_ms=0))
        with self._lines.of(polled):
            self._commit_and_apply(
                polled, self.judge.decide(self.projector.project(()), self.replica.index, self.state.id_of)
            )

    def _commit_and_apply(self, polled: Polled, judged: tuple[JudgedRecord, ...]) -> None:
        standing = Standing(self.state.replay_start, self._next_offsets, self._input_topic_id)
        batch = encode_batch(polled, judged, standing, self.outputs)
        self._apply(batch, self._commit(batch))

    def _poll(self) -> Polled:
        self._enter(Step.POLL)
        with self.metrics.stage(Stage.POLL):
            polled = self.log.poll(replace(self.limits, records=self._pacing.records))
        self._lookout.look(self._next_offsets)
        return polled

    def _has_reached(self, ends: Mapping[int, int]) -> bool:
        positions = self.log.positions()
        return all(positions.get(partition, 0) >= end for partition, end in ends.items())

    def _judge(self, polled: Polled) -> tuple[JudgedRecord, ...] | None:
        """Step 2: verdicts; index and state are read and not changed. None where they did not fit into memory."""
        self._enter(Step.JUDGE)
        began_at, records = monotonic(), len(polled.records)
        outlives_at = began_at + self.log.longest_pause_seconds

        def should_abandon() -> bool:
            self._show_sign_of_life()
            return self.stopping.is_impatient or monotonic() > outlives_at

        try:
            projected = self.projector.project(polled.records, should_abandon)
            judged = self.judge.decide(projected, self.replica.index, self.state.id_of)
        except OutOfMemoryError as error:
            self._take_fewer(records, error)
            return None
        except BatchAbandonedError as error:
            if self.stopping.is_impatient:
                raise
            self._pacing.took(records, monotonic() - began_at)
            raise OwnershipLostError(
                f"The micro-batch of {records} records outlived its membership: {monotonic() - began_at:.0f} s without a "
                "poll. It is given up and decided again in smaller ones."
            ) from error
        self._pacing.took(records, monotonic() - began_at)
        self.metrics.batch_limited(self._pacing.records)
        return judged

    def _take_fewer(self, records: int, error: OutOfMemoryError) -> None:
        """No record is to blame and nothing was changed: go back and poll fewer of them."""
        self.metrics.ran_out_of_memory()
        if not self._pacing.ran_out_of_memory(records):
            raise ModelError(
                f"Memory ran out over a single record ({error}); nothing of it was committed. A tile of "
                f"{self.projector.tile} samples is computed at once whatever the micro-batch: lower "
                "gradient.tile or gradient.dimension, or give the process more memory, then start again."
            ) from error
        self.metrics.batch_limited(self._pacing.records)
        _log.warning("batch.halved", records=records, then=self._pacing.records, error=str(error))
        self.log.seek(self._next_offsets)

    def _commit(self, batch: EncodedBatch) -> Committed:
        """Steps 3 to 6. Leaving early aborts; a commit that raises has an outcome that only recovery knows."""
        with self.metrics.stage(Stage.COMMIT):
            self._enter(Step.BEGIN)
            with self.log.transaction(batch.polled) as transaction:
                self._enter(Step.PUBLISH)
                flushed = transaction.publish(batch.outgoing)
                self._enter(Step.OFFSETS)
                staged = transaction.stage_offsets(flushed, batch.trailer.next_offsets)
                self._enter(Step.COMMIT)
                return transaction.commit(staged)

    def _apply(self, batch: EncodedBatch, committed: Committed) -> None:
        """Step 7: what is committed becomes the state; nothing before this line changed it."""
        self._enter(Step.APPLY)
        self.replica.take(batch, committed.changelog_end)
        self._owes_trailer = False
        self._next_offsets = dict(batch.trailer.next_offsets)
        self.metrics.batch_committed(batch.judged)
        self._show_index()
        self._lines.committed(batch, committed, self.state.total)
        self._tell(batch)

    def _tell(self, batch: EncodedBatch) -> None:
        try:
            self.on_committed(batch)
        except Exception as error:  # noqa: BLE001 (whoever looks on has no say in what was decided)
            if not self._observer_failed:
                _log.exception("onlooker.failed", error=str(error), then="deciding goes on")
            self._observer_failed = True

    def _show_sign_of_life(self) -> None:
        self.notices.alive(self.status)

    def _enter(self, step: Step | RecoveryStep) -> None:
        self._show_sign_of_life()
        _log.debug("daemon.step", step=step)
        self.on_step(step)

    def _show_index(self) -> None:
        index, standing = self.replica.index, self.state.replay_start
        self.metrics.index_grew(len(index), index.dimension)
        self.status.learned(
            uniques=standing.uniques,
            checksum=standing.checksum,
            changelog_position=standing.position,
            next_offsets={} if self.state.trailer is None else dict(self.state.trailer.next_offsets),
        )

    def snapshot_age_seconds(self) -> float:
        """Since the disk last held all that was known, or since the start."""
        return self.replica.snapshot_age_seconds()
