"""The owner's loop: poll → project → decide → encode → commit → apply, one micro-batch after the other.

While one is decided and committed, the next ones are polled and projected already, up to `prefetch` of them: `_fetch`
polls ahead, pipeline.in_flight projects. Deciding is single and in order. Nothing is changed before the commit: index,
state and head move in `_apply` alone, and all that is in flight is dropped whenever the loop goes back to the head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain
from time import monotonic

from dugs_stream.changelog.replay import BEGINNING, ChangelogHead
from dugs_stream.core.gradients.memory import is_out_of_memory
from dugs_stream.daemon.commit import commit
from dugs_stream.daemon.gathering import Gathering
from dugs_stream.daemon.lag import LagMonitor
from dugs_stream.daemon.observers import Observer
from dugs_stream.daemon.pacing import Pacing
from dugs_stream.daemon.replica import Replica
from dugs_stream.daemon.signals import Stopping
from dugs_stream.daemon.steps import Step
from dugs_stream.errors import ModelError, OwnershipLostError
from dugs_stream.log.port import BatchLimits, Committed, Log, Polled
from dugs_stream.ops.metrics import Stage
from dugs_stream.pipeline.decode import BatchAbandonedError, DecodePool, StageTimer
from dugs_stream.pipeline.encode import EncodedBatch, Outputs, encode_batch
from dugs_stream.pipeline.in_flight import BatchInFlight, ProjectedInFlight, ProjectionQueue, Upkeep
from dugs_stream.pipeline.judge import Judge
from dugs_stream.pipeline.project import RecordProjector
from dugs_stream.pipeline.rejections import ENOUGH_RECORDS, RejectionGuard, what_failed
from dugs_stream.records import JudgedRecord

# A micro-batch ends within this, so that stopping and standing by stay a matter of seconds; and within a tenth of
# what the log lets an owner pause, so that even one that takes ten times as long as those before does no harm.
_LONGEST_BATCH_SECONDS, _SHARE_OF_PAUSE = 30.0, 0.1
# How soon the log is asked for more while the oldest micro-batch is projected; each pause is twice the one before. There
# is work in hand, so nobody waits for what comes meanwhile, and a thread that wakes up takes its core from the computing ones.
_FETCH_SECONDS = 0.02
# How often the thread looks up at least: a service manager wants signs of life.
_LOOK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Stages:
    """What a polled micro-batch passes through before its commit, and how the time in each stage is measured.

    upkeep  goes on beside the stream, in the thread that projects
    """

    decoding: DecodePool
    projector: RecordProjector
    judge: Judge
    outputs: Outputs
    timer: StageTimer
    waiting: StageTimer
    guard: RejectionGuard
    upkeep: Upkeep | None = None


class Loop:
    """Decides and commits what is polled, as long as this process owns the input. One thread, the log's.

    prefetch  micro-batches polled and projected beyond the one that is decided; 0: each after the other
    """

    def __init__(
        self,
        log: Log,
        stages: Stages,
        replica: Replica,
        limits: BatchLimits,
        tell: Observer,
        stopping: Stopping,
        prefetch: int = 0,
    ) -> None:
        self.head = BEGINNING
        self.lag = LagMonitor(log, stages.outputs.topics.input, limits.records, tell)
        self.pacing = Pacing(
            limits.records,
            tile=stages.projector.tile,
            target_seconds=min(_LONGEST_BATCH_SECONDS, _SHARE_OF_PAUSE * log.longest_pause_seconds),
        )
        self._log = log
        self.stages = stages
        self._replica = replica
        self._limits = limits
        self._tell = tell
        self._stopping = stopping
        self._prefetch = prefetch
        self._queue = ProjectionQueue(
            stages.decoding,
            stages.projector,
            longest_seconds=log.longest_pause_seconds,
            is_impatient=lambda: stopping.is_impatient,
            is_hasty=lambda: stopping.has_decoded_enough,
            alive=tell.alive,
            waiting=stages.waiting,
            is_beside=prefetch > 0,
            upkeep=stages.upkeep,
        )
        self._gathering: Gathering | None = None
        self._agreement = self._told_agreement = stages.projector.first_labels.agreement
        self._least_records = 0
        self._enough_records = ENOUGH_RECORDS

    def run(self, head: ChangelogHead, drain_to: Mapping[int, int] | None, *, owes_trailer: bool) -> None:
        """Go on from `head` until told to stop, or until everything before `drain_to` is decided.

        With `owes_trailer` the first transaction is committed even if it holds no record.
        """
        self.head = head
        try:
            while not self._stopping.requested:
                self._tell.step_entered(Step.POLL)
                with self.stages.timer(Stage.POLL):
                    last = self._fetch()
                self.lag.look(self.head.next_offsets, self._undecided)
                self.use_idle_time()
                if self._queue.batches:
                    is_committed = self._decide_and_commit(self._queue.batches[0])
                    owes_trailer = owes_trailer and not is_committed
                elif owes_trailer and last is not None:
                    self._commit_none(last)
                    owes_trailer = False
                elif drain_to is not None and self._has_reached(drain_to):
                    self.lag.remark_held_back()
                    return
                self._replica.snapshot_if_due()
        finally:
            self._discard()

    def commit_no_records(self, head: ChangelogHead) -> None:
        """A transaction that holds only the trailer that follows `head`."""
        self.head = head
        self._tell.step_entered(Step.POLL)
        self._commit_none(self._log.poll(replace(self._limits, records=0, wait_ms=0)))

    def use_idle_time(self) -> None:
        """Let what goes on beside the stream use the time in which there are no records."""
        self._queue.use_idle_time()

    def close(self) -> None:
        """End the projecting thread."""
        self._queue.close()

    @property
    def in_flight(self) -> tuple[Polled, ...]:
        """Micro-batches polled and not decided, the oldest first; the last may still be gathered."""
        gathering = self._gathering
        gathered = () if gathering is None or not gathering.parts else (gathering.polled(),)
        return (*(batch.polled for batch in self._queue.batches), *gathered)

    # -- ahead of the head -----------------------------------------------------------------------------

    def _fetch(self) -> Polled | None:
        """Step 1: poll what there is room for, and let it be projected; the last poll, None without any.

        It waits for records only if nothing is in flight.
        """
        polled = None
        while self._has_room():
            if self._gathering is None:
                records = max(self.pacing.records, self._least_records)
                self._gathering = Gathering(replace(self._limits, records=records))
            may_wait = not self._queue.batches
            polled = self._log.poll(self._gathering.rest(may_wait=may_wait))
            self._gathering.add(polled)
            if self._gathering.is_over or (may_wait and self._gathering.parts):
                self._submit(self._gathering)
            elif polled.is_empty:
                if not self._gathering.parts:
                    self._gathering = None  # the next one's limits are those of its time
                break
        return polled

    def _has_room(self) -> bool:
        """At most `prefetch` beyond the oldest, which may be in hand: what is being gathered is one of them.

        None before there is a unique: until then a batch is seen in the light of what the one before it brought.
        """
        ahead = self._prefetch if self.head.uniques else 0
        return len(self._queue.batches) <= ahead

    def _submit(self, gathered: Gathering) -> None:
        self._gathering = None
        self._queue.submit(gathered.polled(), gathered.limits.records, model_is_proven=self.head.uniques > 0)

    def _undecided(self) -> dict[int, int]:
        """Per partition, the first offset in flight."""
        undecided: dict[int, int] = {}
        for record in chain.from_iterable(polled.records for polled in self.in_flight):
            undecided.setdefault(record.partition, record.offset)
        return undecided

    def _discard(self) -> None:
        """Drop what is in flight: it was polled from positions, or under an ownership, that do not hold any more."""
        self._gathering = None
        self._queue.discard(self._tell_if_alive)

    def _back_to_head(self) -> None:
        """Poll again from the first record that is not decided."""
        self._discard()
        self._log.seek(self.head.next_offsets)

    def _tell_if_alive(self) -> None:
        if self._queue.has_moved():
            self._tell.alive()

    # -- the head --------------------------------------------------------------------------------------

    def _decide_and_commit(self, batch: BatchInFlight) -> bool:
        """Steps 2 to 7; False if the batch has to be polled again: smaller, or larger if all of it would be rejected."""
        self._tell.batch_polled(batch.polled)
        try:
            judged = self._judge(batch)
            if judged is None:
                return False
            if self.stages.guard.suspects and len(judged) == batch.asked_for < self._enough_records:
                # More are waiting, and if they are all alike, none of them is to be committed.
                self._least_records = self._enough_records
                self._back_to_head()
                return False
            self._write(batch.polled, judged)
            return True
        finally:
            self._tell.batch_ended()

    def _commit_none(self, polled: Polled) -> None:
        """The same of a micro-batch without records."""
        self._tell.batch_polled(polled)
        try:
            self._tell.step_entered(Step.JUDGE)
            self._tell.batch_judged(self.pacing.records)
            self._write(polled, ())
        finally:
            self._tell.batch_ended()

    def _write(self, polled: Polled, judged: tuple[JudgedRecord, ...]) -> None:
        """Steps 3 to 7."""
        batch = encode_batch(polled, judged, self.head, self.stages.outputs)
        self._apply(batch, self._commit(batch))

    def _judge(self, batch: BatchInFlight) -> tuple[JudgedRecord, ...] | None:
        """Step 2: verdicts; index and state are read and not changed. None if memory ran out."""
        self._tell.step_entered(Step.JUDGE)
        records = len(batch.polled.records)
        try:
            projected = self._projected()
            began_at = monotonic()
            judged = self.stages.judge.decide(projected.batch, self._replica.index, self._replica.id_of)
        except BatchAbandonedError as error:
            if self._stopping.requested:
                raise
            self.pacing.took(records, batch.seconds)
            raise OwnershipLostError(
                f"The micro-batch of {records} records outlived its membership: {batch.seconds:.0f} s of "
                "computing. It is given up and decided again in smaller ones."
            ) from error
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self._take_fewer(records, error)
            return None
        self.pacing.took(records, projected.seconds + monotonic() - began_at)
        self._tell.batch_judged(self.pacing.records)
        self._watch(judged, projected)
        return judged

    def _projected(self) -> ProjectedInFlight:
        """Wait for the oldest in flight, and poll ahead meanwhile if there is room."""
        pause = _FETCH_SECONDS
        while not self._queue.is_ready(0):
            with self.stages.waiting(Stage.SEARCH):
                self._queue.is_ready(pause if self._has_room() else _LOOK_SECONDS)
            pause = min(2 * pause, _LOOK_SECONDS)
            self._tell_if_alive()
            if not self._stopping.requested:
                self._fetch()
                self.lag.look(self.head.next_offsets, self._undecided)
        return self._queue.result(self._queue.take())

    def _watch(self, judged: tuple[JudgedRecord, ...], projected: ProjectedInFlight) -> None:
        """Raises StreamRejectedError if the settings do not fit the stream."""
        self.stages.guard.watch(
            judged, has_accepted=self.head.uniques > 0, model_has_run=projected.model_has_run
        )
        self._agreement = projected.agreement

    def _take_fewer(self, records: int, error: Exception) -> None:
        """No record is to blame and nothing was changed: go back and poll fewer of them."""
        self._discard()
        self.stages.projector.release_memory()
        self._least_records = self._enough_records = 0  # a larger batch would run out of memory again
        can_be_halved = self.pacing.ran_out_of_memory(records)
        self._tell.batch_halved(records, self.pacing.records, what_failed(error))
        if not self._replica.index.give_way("the gradients need it") and not can_be_halved:
            raise ModelError(
                f"Memory ran out over a single record ({what_failed(error)}); nothing of it was committed. A tile of "
                f"{self.stages.projector.tile} samples is computed at once, however small the micro-batch: lower "
                "gradient.tile or gradient.dimension, or give the process more memory, then start again."
            ) from error
        self._back_to_head()

    def _commit(self, batch: EncodedBatch) -> Committed:
        """Steps 3 to 6."""
        with self.stages.timer(Stage.COMMIT):
            return commit(self._log, batch, self._tell.step_entered)

    def _apply(self, batch: EncodedBatch, committed: Committed) -> None:
        """Step 7: what is committed becomes the state; nothing before this line changed it."""
        self._tell.step_entered(Step.APPLY)
        self.head = self._replica.take(batch, committed)
        self._tell.head_moved(self.head)
        self._tell.batch_committed(batch.judged, self.head)
        if self._agreement != self._told_agreement:
            self._told_agreement = self._agreement
            self._tell.model_measured(*self._told_agreement)

    def _has_reached(self, ends: Mapping[int, int]) -> bool:
        positions = self._log.positions()
        return all(positions.get(partition, 0) >= end for partition, end in ends.items())
