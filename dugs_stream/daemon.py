"""The daemon's life, as a timeline: own the input, recover, then decide and commit until told to stop.

    run       reach the log → own → recover → loop, and from the top again after whatever voids ownership
    loop      poll → judge → commit → apply, one micro-batch after the other
    shutdown  snapshot, give the input back

It sees ports and never an engine. The commit protocol has seven steps, named by `Step`; whatever goes
wrong inside them leads back through the same recovery as a fresh start, and where an outcome is not known
the process leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from time import monotonic
from typing import Literal

import numpy as np
import structlog
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_when_event_set,
    wait_random_exponential,
)

from dugs_stream.batch import DecidedBatch, Outputs, Standing, decide_batch
from dugs_stream.core.index import UniqueIndex
from dugs_stream.errors import (
    LogUnavailableError,
    OwnershipLostError,
    StateError,
    TransactionAbortedError,
)
from dugs_stream.judge import Judge, JudgingAbandonedError
from dugs_stream.log import wire
from dugs_stream.log.port import BatchLimits, Committed, Log, Ownership, Polled
from dugs_stream.ops.metrics import Metrics, Role, Stage
from dugs_stream.ops.status import Status
from dugs_stream.records import ChangelogPosition, ChangelogRow, Trailer
from dugs_stream.resume import InputTopic, check_trailer, require_covered, resume
from dugs_stream.state.disk import MissingRows
from dugs_stream.state.live import LiveState
from dugs_stream.state.recovery import replay
from dugs_stream.stopping import Stopping

__all__ = ["Daemon", "RecoveryReason", "Step"]

_log = structlog.get_logger("dugs")

# A broker restarts within seconds, so try again soon at first; ten seconds bound the wait after a long
# absence and the noise in the log while it lasts.
_FIRST_RETRY_SECONDS, _LONGEST_RETRY_SECONDS = 0.25, 10.0
# A snapshot saves replay time at the next start and costs a few file writes: every half minute is
# frequent enough for a restart of seconds and rare enough never to be seen in throughput.
_SNAPSHOT_SECONDS = 30.0
# The lag costs a question to the broker; a dashboard asks every few seconds at most.
_LAG_SECONDS = 1.0


class Step(StrEnum):
    """The commit protocol. A process may die at any of them; recovery comes back to the same state."""

    POLL = "poll"
    JUDGE = "judge"
    BEGIN = "begin"
    PUBLISH = "publish"
    OFFSETS = "offsets"
    COMMIT = "commit"
    APPLY = "apply"


class RecoveryReason(StrEnum):
    """Why the state had to be brought to the changelog's end."""

    START = "start"
    OWNERSHIP_LOST = "ownership_lost"
    ABORTED = "aborted"
    LOG_UNAVAILABLE = "log_unavailable"


@dataclass
class Daemon:
    """One process's life beside a log. Build it with `app.build_daemon`; call `run` once, from the main thread.

    on_step is told each step as it begins, for logs and for tests that kill there.
    """

    log: Log
    judge: Judge
    state: LiveState
    outputs: Outputs
    limits: BatchLimits
    start: Literal["earliest", "latest"]
    metrics: Metrics
    status: Status
    stopping: Stopping
    on_step: Callable[[Step], None] = lambda _step: None
    _trailer: Trailer | None = field(default=None, init=False)
    _next_offsets: dict[int, int] = field(default_factory=dict, init=False)
    _input_topic_id: str = field(default="", init=False)
    _missing: tuple[MissingRows, ...] = field(default=(), init=False)
    _last_snapshot: float = field(default_factory=monotonic, init=False)
    _last_look_at_lag: float = field(default=0.0, init=False)

    @property
    def next_offsets(self) -> Mapping[int, int]:
        """Per input partition, the offset of the next record to decide; empty before recovery."""
        return self._next_offsets

    # -- life ------------------------------------------------------------------------------------------

    def run(self, *, drain: bool = False, adopt_offsets: bool = False) -> None:
        """Live until told to stop, or with `drain` until the input's end as of the first recovery is decided."""
        reason = RecoveryReason.START
        drain_to: Mapping[int, int] | None = None
        try:
            self._load_state()
            while not self.stopping.requested:
                try:
                    ownership = self._own()
                    if ownership is None:
                        break
                    self._recover(ownership, reason, adopt_offsets=adopt_offsets)
                    if drain and drain_to is None:
                        drain_to = ownership.ends
                    self._decide_until_stopped(drain_to)
                except JudgingAbandonedError:
                    _log.warning("batch.abandoned", why="told to stop; nothing of it was committed")
                except (OwnershipLostError, TransactionAbortedError, LogUnavailableError) as error:
                    reason = self._ownership_is_void(error)
                    continue
                break
        finally:
            self._shut_down()

    def _own(self) -> Ownership | None:
        """Reach the log with patience, then wait until the input is ours. None when told to stop."""
        patience = Retrying(
            retry=retry_if_exception_type(LogUnavailableError),
            wait=wait_random_exponential(_FIRST_RETRY_SECONDS, _LONGEST_RETRY_SECONDS),
            stop=stop_when_event_set(self.stopping.event),
            sleep=sleep_using_event(self.stopping.event),
            before_sleep=self._say_unavailable_once,
            retry_error_callback=lambda _state: None,
        )
        return patience(self._prepare_and_acquire)

    def _prepare_and_acquire(self) -> Ownership | None:
        self.log.prepare()
        self.status.has("log")
        self._play(Role.STANDBY)
        return self.log.acquire(lambda: self.stopping.requested)

    def _say_unavailable_once(self, attempt: RetryCallState) -> None:
        error = attempt.outcome.exception() if attempt.outcome is not None else None
        self.status.lacks("log", str(error))
        if attempt.attempt_number == 1:
            _log.error("log.unavailable", error=str(error), then="trying again until it answers")

    def _ownership_is_void(self, error: Exception) -> RecoveryReason:
        """Whatever was polled or half written is void; only recovery knows what stands."""
        self.status.lacks("state", f"to be recovered: {error}")
        if isinstance(error, TransactionAbortedError):
            self.metrics.batch_aborted()
        _log.warning("ownership.void", error=str(error), kind=type(error).__name__)
        reasons: dict[type[Exception], RecoveryReason] = {
            TransactionAbortedError: RecoveryReason.ABORTED,
            LogUnavailableError: RecoveryReason.LOG_UNAVAILABLE,
        }
        return reasons.get(type(error), RecoveryReason.OWNERSHIP_LOST)

    def _shut_down(self) -> None:
        self.status.lacks("state", "shutting down")
        if self._trailer is not None:
            self._snapshot(with_graph=True)
        self.log.close()
        self.state.close()
        _log.info("daemon.stopped", uniques=len(self.judge.deduplicator.index))

    def _play(self, role: Role) -> None:
        self.metrics.role_changed(role)
        self.status.role_changed(role)

    # -- recovery --------------------------------------------------------------------------------------

    def _recover(self, ownership: Ownership, reason: RecoveryReason, *, adopt_offsets: bool) -> None:
        """Bring the state to the changelog's end, hold it against the group's offsets, and seek."""
        started = monotonic()
        self._play(Role.RECOVERING)
        self.status.lacks("state", "being recovered from the changelog")
        self._replay(ownership)
        topic = InputTopic(
            self.outputs.topics.input, ownership.input_topic_id, ownership.beginnings, ownership.ends
        )
        trailer = self.state.trailer
        remarks = () if trailer is None else check_trailer(trailer, self.outputs.deployment, topic)
        if trailer is not None and adopt_offsets:
            trailer = replace(trailer, next_offsets={**trailer.next_offsets, **ownership.committed})
        resumption = resume(trailer, ownership.committed, topic, self.start)
        for remark in (*remarks, *resumption.remarks):
            _log.warning("recovery.remark", remark=remark)
        self._next_offsets = dict(resumption.next_offsets)
        self._input_topic_id = ownership.input_topic_id
        self._trailer = (
            None if adopt_offsets else trailer
        )  # no trailer: the first commit writes one, batch or not
        self.log.seek(self._next_offsets)
        self._now_owner(reason, monotonic() - started)

    def _load_state(self) -> None:
        """Take up what the state folder holds: its newest valid snapshot, and a graph beside it."""
        self.state.close()
        loaded = self.state.open()
        for path in loaded.set_aside:
            _log.warning("state.damaged", set_aside=str(path), then="the changelog restores what it held")
        self._missing = loaded.missing
        self._index_from_snapshot()

    def _index_from_snapshot(self) -> None:
        index = UniqueIndex(self.judge.deduplicator.dimension)
        if not self._missing:
            for vectors in self.state.vector_blocks():
                index.add(vectors)
            index.load_graph(self.state.path)
        self.judge.deduplicator.index = index

    def _replay(self, ownership: Ownership) -> None:
        """Refill what the disk lost, then apply whatever was committed since."""
        if self._missing:
            self._refill(ownership)
        start = self.state.replay_start
        require_covered(start.position, ownership.changelog_start, ownership.changelog_end)
        index = self.judge.deduplicator.index
        try:
            for part in replay(
                start, self._entries(start.position, ownership), self.outputs.deployment.fingerprint
            ):
                if part.rows:
                    index.add(np.stack([row.vector for row in part.rows]))
                self.state.apply(part.rows, part.trailer, part.position)
        except LogUnavailableError:
            self._load_state()  # half a replay stands at no trailer: back to the snapshot, then again
            raise
        _log.info("recovery.replayed", uniques=len(index), start=start.position, end=ownership.changelog_end)

    def _refill(self, ownership: Ownership) -> None:
        start = min(missing.changelog_start for missing in self._missing)
        stop = max(missing.changelog_stop for missing in self._missing)
        require_covered(start, ownership.changelog_start, ownership.changelog_end)
        entries = self._entries(start, ownership, stop)
        try:
            self.state.refill(entry for _, entry in entries if isinstance(entry, ChangelogRow))
        except StateError as error:
            _log.warning("state.forgotten", error=str(error), then="replaying the whole changelog")
            self.state.forget()
        self._missing = ()
        self._index_from_snapshot()

    def _entries(
        self, start: ChangelogPosition, ownership: Ownership, stop: ChangelogPosition | None = None
    ) -> Iterator[tuple[ChangelogPosition, ChangelogRow | Trailer]]:
        for position, message in self.log.read_changelog(start, stop or ownership.changelog_end):
            yield position, wire.decode_changelog(message)

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
            if polled.is_empty and self._trailer is not None:
                if drain_to is not None and self._has_reached(drain_to):
                    return
                continue
            batch = self._decide(polled)
            self._apply(batch, self._commit(batch))
            self._snapshot_if_due()

    def _poll(self) -> Polled:
        self._enter(Step.POLL)
        with self.metrics.stage(Stage.POLL):
            polled = self.log.poll(self.limits)
        if monotonic() - self._last_look_at_lag >= _LAG_SECONDS:
            self._look_at_lag()
        return polled

    def _look_at_lag(self) -> None:
        self._last_look_at_lag = monotonic()
        _, ends = self.log.input_bounds()
        positions = self.log.positions()
        lag = {partition: max(0, end - positions.get(partition, end)) for partition, end in ends.items()}
        self.metrics.lag_changed(self.outputs.topics.input, lag, self.limits.records)
        self.status.learned(lag=sum(lag.values()))

    def _has_reached(self, ends: Mapping[int, int]) -> bool:
        positions = self.log.positions()
        return all(positions.get(partition, 0) >= end for partition, end in ends.items())

    def _decide(self, polled: Polled) -> DecidedBatch:
        """Step 2: verdicts and messages; index and state are read and not changed."""
        self._enter(Step.JUDGE)
        judged = self.judge.judge(polled.samples, self.state.id_of, lambda: self.stopping.is_impatient)
        standing = Standing(self.state.replay_start, self._next_offsets, self._input_topic_id)
        return decide_batch(polled, judged, standing, self.outputs)

    def _commit(self, batch: DecidedBatch) -> Committed:
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

    def _apply(self, batch: DecidedBatch, committed: Committed) -> None:
        """Step 7: what is committed becomes the state; nothing before this line changed it."""
        self._enter(Step.APPLY)
        self.judge.deduplicator.accept(batch.judged.projection, batch.judged.decisions)
        self.state.apply(batch.rows, batch.trailer, committed.changelog_end)
        self._trailer = batch.trailer
        self._next_offsets = dict(batch.trailer.next_offsets)
        self.metrics.batch_committed(batch.judged)
        self._show_index()
        records, unique = len(batch.polled.samples), len(batch.rows)
        _log.info("batch.committed", records=records, unique=unique, uniques=self.state.total)

    def _enter(self, step: Step) -> None:
        _log.debug("batch.step", step=step)
        self.on_step(step)

    def _show_index(self) -> None:
        index = self.judge.deduplicator.index
        self.metrics.index_grew(len(index), index.dimension)
        self.status.learned(uniques=len(index), next_offsets=dict(self._next_offsets))

    # -- snapshots -------------------------------------------------------------------------------------

    def _snapshot_if_due(self) -> None:
        if monotonic() - self._last_snapshot >= _SNAPSHOT_SECONDS:
            self._snapshot()

    def snapshot_age_seconds(self) -> float:
        """Since the last snapshot was tried, or since the start."""
        return monotonic() - self._last_snapshot

    def _snapshot(self, *, with_graph: bool = False) -> None:
        """Best effort: the changelog is the truth, so a full disk costs replay time and nothing else."""
        self._last_snapshot = monotonic()
        try:
            written = self.state.snapshot(self.judge.deduplicator.index, with_graph=with_graph)
        except StateError as error:
            _log.error(
                "snapshot.failed", error=str(error), then="deciding goes on; the changelog holds everything"
            )
            return
        if written is not None:
            seconds = round(written.seconds, 3)
            _log.info("snapshot.written", rows=written.rows, new=written.new_rows, seconds=seconds)
