"""Micro-batches in flight: polled, and projected one after the other while earlier ones are decided and committed.

One thread projects, in the order of polling. What it finds belongs to the batch: it counts once the batch is asked for,
and not at all if the batch was discarded. Nothing here decides, commits or touches the log.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

import torch
from structlog.contextvars import bound_contextvars

from dugs_stream.log.port import Polled
from dugs_stream.ops.metrics import Stage
from dugs_stream.pipeline.decode import BatchAbandonedError, DecodePool, PendingBatch, StageTimer
from dugs_stream.pipeline.encode import ranges_of
from dugs_stream.pipeline.first_labels import Agreement
from dugs_stream.pipeline.project import RecordProjector
from dugs_stream.pipeline.projected import ProjectedBatch

# How often a thread that waits for the projecting one looks up, for signs of life: well below any watchdog.
_LOOK_SECONDS = 0.2
# Partitions whose offsets a log line names; for a batch of more it says how many there are.
_MOST_NAMED = 8


@dataclass(frozen=True, slots=True)
class ProjectedInFlight:
    """A micro-batch's vectors, with what was true of the projector when they were done.

    seconds        its own, without the time in which it waited for its turn
    model_has_run  the model had taken a sample, of this batch or of an earlier one
    agreement      how often the model gave the first labels, up to this batch
    """

    batch: ProjectedBatch
    seconds: float
    model_has_run: bool
    agreement: Agreement


@dataclass(slots=True, eq=False)
class BatchInFlight:
    """A polled micro-batch on its way to its verdicts.

    pending          its records, being decoded; None once they are projected, so that their numbers are not kept
    asked_for        how many records it might have had
    model_is_proven  as `RecordProjector.project` takes it
    began_at         of its projection, on the monotonic clock
    """

    polled: Polled
    pending: PendingBatch | None
    asked_for: int
    model_is_proven: bool
    began_at: float | None = None
    is_discarded: bool = False
    future: Future[ProjectedInFlight] | None = None

    @property
    def seconds(self) -> float:
        """Since its projection began; 0 before."""
        return 0.0 if self.began_at is None else monotonic() - self.began_at


class Upkeep(Protocol):
    """What is computed beside the stream, in the thread that projects: a little of it before each micro-batch."""

    @property
    def has_news(self) -> bool:
        """Whether there is anything to do; any thread."""

    def take_in(self, should_abandon: Callable[[], bool], *, is_idle: bool) -> bool:
        """Do a little of it; False if nothing was done. What it raises is raised as of the micro-batch after it."""


class ProjectionQueue:
    """Projects micro-batches in order. All methods are for one thread, that of the log.

    longest_seconds  for which one batch may be projected before it is abandoned
    is_impatient     asked between two tiles: whether to abandon what is being projected
    is_hasty         asked while it waits for decoding, and in the upkeep: whether to abandon that
    alive            told between two tiles if the caller's own thread projects, which it does with is_beside=False
    waiting          times what a stage waits for
    upkeep           goes on between two micro-batches, and while there are none
    """

    def __init__(
        self,
        decoding: DecodePool,
        projector: RecordProjector,
        *,
        longest_seconds: float,
        is_impatient: Callable[[], bool],
        is_hasty: Callable[[], bool] = lambda: False,
        alive: Callable[[], None],
        waiting: StageTimer,
        is_beside: bool,
        upkeep: Upkeep | None = None,
    ) -> None:
        self._decoding = decoding
        self._projector = projector
        self._longest_seconds = longest_seconds
        self._is_impatient = is_impatient
        self._is_hasty = is_hasty
        self._alive = alive
        self._waiting = waiting
        self._is_beside = is_beside
        self._upkeep = upkeep
        self._spare: Future[None] | None = None
        self._is_called_off = False
        self._executor: ThreadPoolExecutor | None = None
        self._batches: deque[BatchInFlight] = deque()
        # Written by the projecting thread alone.
        self._idle = ExitStack()
        self._has_failed = False
        self._tiles = self._seen_tiles = 0

    @property
    def batches(self) -> Sequence[BatchInFlight]:
        """Those in flight, the oldest first."""
        return self._batches

    def submit(self, polled: Polled, asked_for: int, *, model_is_proven: bool) -> None:
        """Let it be decoded now, and projected after those before it; returns at once."""
        pending = self._decoding.submit(polled.records)
        batch = BatchInFlight(polled, pending, asked_for, model_is_proven)
        if self._is_beside:
            batch.future = self._thread().submit(self._project, batch)
        self._batches.append(batch)

    def is_ready(self, seconds: float) -> bool:
        """Whether the oldest is projected, or has failed, within so many seconds."""
        future = self._batches[0].future
        return future is None or bool(wait((future,), seconds).done)

    def has_moved(self) -> bool:
        """Whether another tile was begun since it was asked last: a device that hangs must not pass for alive."""
        seen, self._seen_tiles = self._seen_tiles, self._tiles
        return self._tiles != seen

    def take(self) -> BatchInFlight:
        """The oldest, which is no longer in flight; with it what `result` needs."""
        return self._batches.popleft()

    def result(self, batch: BatchInFlight) -> ProjectedInFlight:
        """What `is_ready` waited for. Raises as `RecordProjector.project` does."""
        return self._project(batch) if batch.future is None else batch.future.result()

    def use_idle_time(self) -> None:
        """Let the upkeep go on while nothing is in flight; it gives way to the next micro-batch. Raises as it does."""
        spare = self._spare
        if spare is not None and spare.done():
            self._spare = None
            spare.result()
        if self._upkeep is None or self._batches or self._spare is not None or not self._upkeep.has_news:
            return
        if self._is_beside:
            self._spare = self._thread().submit(self._keep_up)
            return

        def should_abandon() -> bool:
            self._tiles += 1
            self._alive()
            return self._is_hasty() or self._is_impatient()

        self._upkeep.take_in(should_abandon, is_idle=True)

    def discard(self, while_waiting: Callable[[], None]) -> None:
        """Drop all that is in flight. Returns once the projecting thread is idle, at the latest one tile later.

        `while_waiting` is called about five times a second.
        """
        batches = list(self._batches)
        self._batches.clear()
        for batch in batches:
            batch.is_discarded = True
            if (pending := batch.pending) is not None:
                pending.cancel()
            if batch.future is not None:
                batch.future.cancel()
        for batch in batches:
            while batch.future is not None and not wait((batch.future,), _LOOK_SECONDS).done:
                while_waiting()
        self._is_called_off = True
        while self._spare is not None and not wait((self._spare,), _LOOK_SECONDS).done:
            while_waiting()
        self._has_failed = self._is_called_off = False

    def close(self) -> None:
        """End the thread; nothing may be in flight."""
        self._is_called_off = True
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown()

    def _thread(self) -> ThreadPoolExecutor:
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, "dugs-project", torch_as_here())
        return self._executor

    def _project(self, batch: BatchInFlight) -> ProjectedInFlight:
        """In the projecting thread. After a failure nothing later is projected until everything is discarded."""
        self._idle.close()
        try:
            return self._project_now(batch)
        finally:
            if self._is_beside:
                self._idle.enter_context(self._waiting(Stage.GRADIENT))

    def _keep_up(self) -> None:
        """In the projecting thread, while no micro-batch waits for it."""
        self._idle.close()

        def gives_way() -> bool:
            self._tiles += 1
            return bool(self._batches) or self._is_called_off or self._is_impatient()

        try:
            while self._upkeep is not None and not gives_way():
                if not self._upkeep.take_in(gives_way, is_idle=True):
                    return
        finally:
            self._idle.enter_context(self._waiting(Stage.GRADIENT))

    def _project_now(self, batch: BatchInFlight) -> ProjectedInFlight:
        if self._has_failed or batch.pending is None:
            raise BatchAbandonedError
        began_at = monotonic()

        def is_unwanted() -> bool:
            outlived = monotonic() - began_at > self._longest_seconds
            return batch.is_discarded or outlived or self._is_impatient()

        def should_abandon() -> bool:
            self._tiles += 1
            if not self._is_beside:
                self._alive()
            return is_unwanted()

        try:
            if self._upkeep is not None:
                self._upkeep.take_in(lambda: should_abandon() or self._is_hasty(), is_idle=False)
                began_at = monotonic()
            batch.began_at = began_at
            with bound_contextvars(offsets=offsets_of(batch.polled)):
                with self._waiting(Stage.GRADIENT):
                    decoded = batch.pending.result(lambda: is_unwanted() or self._is_hasty())
                projected = self._projector.project(
                    decoded, should_abandon, model_is_proven=batch.model_is_proven, keeps_samples=False
                )
        except BaseException:
            self._has_failed = True
            raise
        finally:
            batch.pending = None
        return ProjectedInFlight(
            projected,
            monotonic() - began_at,
            self._projector.found is not None,
            self._projector.first_labels.agreement,
        )


def torch_as_here() -> Callable[[], None]:
    """What makes another thread compute as this one does: what PyTorch keeps for each thread, and a factory may have set.

    The number of OpenMP's threads, on which a vector's last bits depend, the default device and the current GPU. Modes of
    gradients and autocast are set anew for each pass (core.gradients.inference).
    """
    threads, device = torch.get_num_threads(), torch.get_default_device()
    gpu = torch.cuda.current_device() if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]

    def take_over() -> None:
        torch.set_num_threads(threads)
        if device != torch.get_default_device():
            torch.set_default_device(device)
        if gpu is not None:
            torch.cuda.set_device(gpu)

    return take_over


def offsets_of(polled: Polled) -> str:
    """First and last offset a partition, as 0:1041-1296; an empty one (a trailer alone) has none."""
    ranges = ranges_of(polled)
    named = [f"{partition}:{first}-{last}" for partition, (first, last) in list(ranges.items())[:_MOST_NAMED]]
    if len(ranges) > _MOST_NAMED:
        named.append(f"and {len(ranges) - _MOST_NAMED} more")
    return " ".join(named)
