"""The owner's loop: poll → project → decide → encode → commit → apply, one micro-batch after the other.

Nothing is changed before the commit: index, state and head move in `_apply` alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from time import monotonic

from dugs_stream.changelog.replay import BEGINNING, ChangelogHead
from dugs_stream.core.gradients.memory import is_out_of_memory
from dugs_stream.daemon.commit import commit
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
from dugs_stream.pipeline.judge import Judge
from dugs_stream.pipeline.project import RecordProjector
from dugs_stream.pipeline.rejections import ENOUGH_RECORDS, RejectionGuard, what_failed
from dugs_stream.records import JudgedRecord

# A micro-batch ends within this, so that stopping and standing by stay a matter of seconds; and within a tenth of
# what the log lets an owner pause, so that even one that takes ten times as long as those before does no harm.
_LONGEST_BATCH_SECONDS, _SHARE_OF_PAUSE = 30.0, 0.1


@dataclass(frozen=True, slots=True)
class Stages:
    """What a polled micro-batch passes through before its commit, and how the time in each stage is measured."""

    decoding: DecodePool
    projector: RecordProjector
    judge: Judge
    outputs: Outputs
    timer: StageTimer
    guard: RejectionGuard


class Loop:
    """Decides and commits what is polled, as long as this process owns the input. One thread, the log's."""

    def __init__(
        self,
        log: Log,
        stages: Stages,
        replica: Replica,
        limits: BatchLimits,
        tell: Observer,
        stopping: Stopping,
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
        self._told_agreement = stages.projector.first_labels.agreement
        self._asked_for = self._least_records = 0
        self._enough_records = ENOUGH_RECORDS

    def run(self, head: ChangelogHead, drain_to: Mapping[int, int] | None, *, owes_trailer: bool) -> None:
        """Go on from `head` until told to stop, or until everything before `drain_to` is decided.

        With `owes_trailer` the first transaction is committed even if it holds no record.
        """
        self.head = head
        while not self._stopping.requested:
            polled = self._poll(max(self.pacing.records, self._least_records), self._limits.wait_ms)
            if owes_trailer or not polled.is_empty:
                is_committed = self._decide_and_commit(polled)
                owes_trailer = owes_trailer and not is_committed
            elif drain_to is not None and self._has_reached(drain_to):
                self.lag.remark_held_back()
                return
            self._replica.snapshot_if_due()

    def commit_no_records(self, head: ChangelogHead) -> None:
        """A transaction that holds only the trailer that follows `head`."""
        self.head = head
        self._decide_and_commit(self._poll(0, 0))

    def _poll(self, records: int, wait_ms: int) -> Polled:
        """Step 1: the records, and the membership they were polled under."""
        self._tell.step_entered(Step.POLL)
        self._asked_for = records
        with self.stages.timer(Stage.POLL):
            polled = self._log.poll(replace(self._limits, records=records, wait_ms=wait_ms))
        self.lag.look(self.head.next_offsets)
        return polled

    def _decide_and_commit(self, polled: Polled) -> bool:
        """Steps 2 to 7; False if the batch has to be polled again: smaller, or larger if all of it would be rejected."""
        self._tell.batch_polled(polled)
        try:
            judged = self._judge(polled)
            if judged is None:
                return False
            self.stages.guard.watch(
                judged,
                has_accepted=self.head.uniques > 0,
                model_has_run=self.stages.projector.found is not None,
            )
            if self.stages.guard.suspects and len(judged) == self._asked_for < self._enough_records:
                # More are waiting, and if they are all alike, none of them is to be committed.
                self._least_records = self._enough_records
                self._log.seek(self.head.next_offsets)
                return False
            batch = encode_batch(polled, judged, self.head, self.stages.outputs)
            self._apply(batch, self._commit(batch))
            return True
        finally:
            self._tell.batch_ended()

    def _judge(self, polled: Polled) -> tuple[JudgedRecord, ...] | None:
        """Step 2: verdicts; index and state are read and not changed. None if memory ran out."""
        self._tell.step_entered(Step.JUDGE)
        began_at, records = monotonic(), len(polled.records)
        outlives_at = began_at + self._log.longest_pause_seconds

        def should_abandon() -> bool:
            self._tell.alive()
            return self._stopping.is_impatient or monotonic() > outlives_at

        try:
            decoded = self.stages.decoding.submit(polled.records).result(should_abandon)
            projected = self.stages.projector.project(
                decoded, should_abandon, model_is_proven=self.head.uniques > 0
            )
            judged = self.stages.judge.decide(projected, self._replica.index, self._replica.id_of)
        except BatchAbandonedError as error:
            if self._stopping.is_impatient:
                raise
            self.pacing.took(records, monotonic() - began_at)
            raise OwnershipLostError(
                f"The micro-batch of {records} records outlived its membership: {monotonic() - began_at:.0f} s without a "
                "poll. It is given up and decided again in smaller ones."
            ) from error
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self._take_fewer(records, error)
            return None
        self.pacing.took(records, monotonic() - began_at)
        self._tell.batch_judged(self.pacing.records)
        return judged

    def _take_fewer(self, records: int, error: Exception) -> None:
        """No record is to blame and nothing was changed: go back and poll fewer of them."""
        self.stages.projector.release_memory()
        self._least_records = self._enough_records = 0  # a larger batch would run out of memory again
        can_be_halved = self.pacing.ran_out_of_memory(records)
        self._tell.batch_halved(records, self.pacing.records, what_failed(error))
        if not can_be_halved:
            raise ModelError(
                f"Memory ran out over a single record ({what_failed(error)}); nothing of it was committed. A tile of "
                f"{self.stages.projector.tile} samples is computed at once, however small the micro-batch: lower "
                "gradient.tile or gradient.dimension, or give the process more memory, then start again."
            ) from error
        self._log.seek(self.head.next_offsets)

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
        if self.stages.projector.first_labels.agreement != self._told_agreement:
            self._told_agreement = self.stages.projector.first_labels.agreement
            self._tell.model_measured(*self._told_agreement)

    def _has_reached(self, ends: Mapping[int, int]) -> bool:
        positions = self._log.positions()
        return all(positions.get(partition, 0) >= end for partition, end in ends.items())
