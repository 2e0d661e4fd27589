"""Decoding of micro-batches beside the computation: a pool of threads, results in the order of the records.

A record's outcome depends on its bytes and the settings alone, so threads and chunks change how long it takes and never
what comes out. Batches begin in the order in which they were submitted. What has not begun can be cancelled; what was
begun runs to its end, and its result is dropped.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from dugs_stream.inputs.decoder import Sample
from dugs_stream.records import Record, Rejection, Skip

StageTimer = Callable[[str], AbstractContextManager[None]]
"""Times what runs inside it as this stage of a micro-batch."""

Outcome = Sample | Rejection | Skip
"""What decoding makes of a record."""

_CHUNK_BYTES = 64 * 1024
"""Values handed to a thread together: about a millisecond of work, so that the hand-over of 0.05 ms does not count."""
_LOOK_SECONDS = 0.1
"""How often a caller that waits is asked whether to give up; a signal is to be felt at once, and waking costs CPU."""


class BatchAbandonedError(Exception):
    """The micro-batch was given up, between two tiles or two chunks, because the caller asked for it."""


@dataclass(frozen=True, slots=True)
class DecodedBatch:
    """A micro-batch after decoding: for each record, in order, its sample, or why there is none."""

    records: tuple[Record, ...]
    outcomes: tuple[Outcome, ...]


class DecodesRecords(Protocol):
    """Decodes records one after the other; safe to call from several threads, and the same each time."""

    def __call__(self, records: Sequence[Record], /) -> Sequence[Outcome]:
        """An outcome for each record. Raises only what says that memory ran out."""


class PendingBatch:
    """A submitted micro-batch. One thread at a time may ask for its result."""

    def __init__(
        self,
        records: tuple[Record, ...],
        chunks: Sequence[_Chunk],
        stage: StageTimer,
        *,
        is_handed_over: bool,
    ) -> None:
        self.records = records
        self._chunks = chunks
        self._stage = stage
        self._is_cancelled = False
        # Threads take the chunks from the front.
        self._for_the_caller = chunks[::-1] if is_handed_over else chunks

    def result(self, should_abandon: Callable[[], bool] = lambda: False) -> DecodedBatch:
        """The decoded batch; the caller decodes what no thread has begun, and waits for the rest.

        Raises what decoding raised (memory ran out), and BatchAbandonedError when `should_abandon`, which is asked every
        0.1 s while nothing else is to be done, says so, or if another thread has cancelled it. What has not begun is
        cancelled then.
        """
        try:
            with self._stage("decode"):
                for chunk in self._for_the_caller:
                    self._require_wanted(should_abandon)
                    chunk.decode_unless_begun()
                require_wanted = partial(self._require_wanted, should_abandon)
                outcomes = [outcome for chunk in self._chunks for outcome in chunk.result(require_wanted)]
        except BaseException:
            self.cancel()
            raise
        return DecodedBatch(self.records, tuple(outcomes))

    def cancel(self) -> None:
        """Begin nothing more of it; any thread. What has begun ends by itself, and nobody sees its result."""
        self._is_cancelled = True
        for chunk in self._chunks:
            chunk.cancel()

    def _require_wanted(self, should_abandon: Callable[[], bool]) -> None:
        if self._is_cancelled or should_abandon():
            raise BatchAbandonedError


class DecodePool:
    """Decodes micro-batches in threads of its own; with one thread, in the thread that asks for the result.

    decode   decodes records one after the other, in any thread
    stage    times a batch from the moment its result is asked for
    threads  how many decode beside the caller; they start with the first batch that is worth it

    Any thread may submit.
    """

    def __init__(
        self, decode: DecodesRecords, stage: StageTimer = lambda _name: nullcontext(), *, threads: int = 1
    ) -> None:
        self._decode = decode
        self._stage = stage
        self._executor = (
            ThreadPoolExecutor(threads, thread_name_prefix="dugs-decode") if threads > 1 else None
        )

    def submit(self, records: Sequence[Record]) -> PendingBatch:
        """Begin to decode; returns at once."""
        chunks = [_Chunk(self._decode, part) for part in _parts(records)]
        executor = self._executor if len(chunks) > 1 else None
        if executor is not None:
            for chunk in chunks:
                chunk.hand_to(executor)
        return PendingBatch(tuple(records), chunks, self._stage, is_handed_over=executor is not None)

    def close(self) -> None:
        """Cancel what was not begun and wait for the rest. No batch may be submitted after it."""
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)


class _Chunk:
    """Neighbouring records, decoded by a thread of the pool or by the one that asks for them."""

    def __init__(self, decode: DecodesRecords, records: Sequence[Record]) -> None:
        self._decode = decode
        self._records = records
        self._future: Future[Sequence[Outcome]] = Future()

    def hand_to(self, executor: ThreadPoolExecutor) -> None:
        self._future = executor.submit(self._decode, self._records)

    def cancel(self) -> None:
        self._future.cancel()

    def decode_unless_begun(self) -> None:
        """What was cancelled before it began is free to be decoded here."""
        if self._future.cancel():
            decoded: Future[Sequence[Outcome]] = Future()
            decoded.set_result(self._decode(self._records))
            self._future = decoded

    def result(self, require_wanted: Callable[[], None]) -> Sequence[Outcome]:
        while wait([self._future], _LOOK_SECONDS).not_done:
            require_wanted()
        return self._future.result()


def _parts(records: Sequence[Record]) -> list[Sequence[Record]]:
    """Neighbours together until they have the bytes that are worth a hand-over."""
    parts: list[list[Record]] = []
    room = 0
    for record in records:
        if not parts or room <= 0:
            parts.append([])
            room = _CHUNK_BYTES
        parts[-1].append(record)
        room -= len(record.value or b"")
    return list(parts)


def cpus_for_decoding() -> int:
    """The CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
