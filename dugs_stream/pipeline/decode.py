"""Decoding of micro-batches beside the computation: a pool of threads, results in the order of the records.

A record's outcome depends on its bytes and the settings alone, so threads and chunks change how long it takes and never
what comes out. Batches begin in the order in which they were submitted. What has not begun can be cancelled; what was
begun runs to its end, and its result is dropped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from dugs_stream.core.gradients.memory import is_out_of_memory
from dugs_stream.core.samples import leaves
from dugs_stream.inputs.codec import undecodable
from dugs_stream.inputs.decoder import Decoder, Sample
from dugs_stream.records import Reason, Record, Rejection, Skip

StageTimer = Callable[[str], AbstractContextManager[None]]
"""Times what runs inside it as this stage of a micro-batch."""

Outcome = Sample | Rejection | Skip
"""What decoding makes of a record."""

_CHUNK_BYTES = 64 * 1024
"""Values handed to a thread together: a millisecond or more for pictures and texts, so that 0.05 ms do not count."""
_CHUNKS_A_THREAD = 4
"""Into how many a micro-batch is cut for each thread that works alone, so that none waits long for the slowest."""
_LOOK_SECONDS = 0.1
"""How often a caller that waits is asked whether to give up; a signal is to be felt at once, and waking costs CPU."""


_NO_ROOM = "decoding it takes more memory than there is, without any other record beside it"


class BatchAbandonedError(Exception):
    """The micro-batch was given up, between two tiles or two chunks, because the caller asked for it."""


@dataclass(slots=True)
class DecodedBatch:
    """A micro-batch after decoding: for each record, in order, its sample, or why there is none."""

    records: tuple[Record, ...]
    outcomes: tuple[Outcome, ...]

    def handed_over(self) -> list[Outcome]:
        """The outcomes, which are no longer held here: memory of samples that are done with serves those decoded next."""
        outcomes, self.outcomes = list(self.outcomes), ()
        return outcomes


class DecodesRecords(Protocol):
    """Decodes records one after the other; safe to call from several threads, and the same each time."""

    def __call__(self, records: Sequence[Record], /) -> Sequence[Outcome]:
        """An outcome for each record. Raises only what says that memory ran out."""


class Closes(Protocol):
    """What a codec runs in beside this process."""

    def close(self) -> None:
        """End it; records that are with it are given up."""


class PendingBatch:
    """A submitted micro-batch. One thread at a time may ask for its result."""

    def __init__(
        self,
        records: tuple[Record, ...],
        chunks: Sequence[_Chunk],
        for_the_caller: Sequence[_Chunk],
        timing: _Timing,
    ) -> None:
        self.records = records
        self._chunks = chunks
        self._for_the_caller = for_the_caller
        self._timing = timing
        self._is_cancelled = False

    def result(self, should_abandon: Callable[[], bool] = lambda: False) -> DecodedBatch:
        """The decoded batch; the caller decodes what no thread has begun, and waits for the rest.

        Raises what decoding raised (memory ran out; a lone record is rejected for it, since it cannot be taken with fewer
        others), and BatchAbandonedError when `should_abandon`, which is asked every
        0.1 s while nothing else is to be done, says so, or if another thread has cancelled it. What has not begun is
        cancelled then. A result is given once, and not kept.
        """
        try:
            for chunk in self._for_the_caller:
                self._require_wanted(should_abandon)
                chunk.decode_unless_begun()
            require_wanted = partial(self._require_wanted, should_abandon)
            outcomes = [outcome for chunk in self._chunks for outcome in chunk.result(require_wanted)]
        except BaseException as error:
            self.cancel()
            if len(self.records) == 1 and is_out_of_memory(error):
                return DecodedBatch(self.records, (undecodable(f"{_NO_ROOM} ({type(error).__name__})"),))
            raise
        self._chunks = self._for_the_caller = ()
        return DecodedBatch(self.records, tuple(outcomes))

    @property
    def is_running(self) -> bool:
        """Whether a thread of the pool is at it, or is to be: a while longer also once it is cancelled."""
        return any(not chunk.is_done for chunk in self._chunks)

    def cancel(self) -> None:
        """Begin nothing more of it; any thread. What has begun ends by itself, with a codec of its own threads or processes
        after the record in hand, and nobody sees its result.
        """
        self._is_cancelled = True
        for chunk in self._chunks:
            chunk.cancel()
        self._timing.end()

    def _require_wanted(self, should_abandon: Callable[[], bool]) -> None:
        if self._is_cancelled or should_abandon():
            raise BatchAbandonedError


class DecodePool:
    """Decodes micro-batches in threads of its own; with one thread, in the thread that asks for the result.

    decode       decodes records one after the other, in any thread
    stage        times a batch from the first of its records that is begun to the last that is done
    threads      how many decode beside the caller; they start with the first batch that is worth it
    chunk_bytes  values that are worth a hand-over; a batch of less is the caller's. None: the caller decodes nothing,
                 since the threads only wait for processes, or the codec is to be called from these threads alone
    processes    what is closed with the pool

    Any thread may submit.
    """

    def __init__(
        self,
        decode: DecodesRecords,
        stage: StageTimer = lambda _name: nullcontext(),
        *,
        threads: int = 1,
        chunk_bytes: int | None = _CHUNK_BYTES,
        processes: Closes | None = None,
    ) -> None:
        self._decode = decode
        self._stage = stage
        self.threads = threads
        self.chunk_bytes = chunk_bytes
        self._processes = processes
        self._executor = (
            ThreadPoolExecutor(threads, thread_name_prefix="dugs-decode")
            if threads > 1 or chunk_bytes is None
            else None
        )

    def submit(self, records: Sequence[Record], *, is_aside: bool = False) -> PendingBatch:
        """Begin to decode; returns at once.

        is_aside  by one thread or process alone: if the codec hangs, the others are there for what matters more
        """
        parts = [records] if is_aside and self.chunk_bytes is None else self._parts(records)
        timing = _Timing(self._stage, len(parts))
        # A codec that hangs takes long over each record, and threads and processes are the next batch's too.
        chunks = [_Chunk(self._decode, part, timing, one_by_one=self.chunk_bytes is None) for part in parts]
        for_the_caller = chunks
        if self._executor is not None and (self.chunk_bytes is None or len(chunks) > 1):
            for chunk in chunks:
                chunk.hand_to(self._executor)
            # Threads take them from the front.
            for_the_caller = [] if self.chunk_bytes is None else chunks[::-1]
        return PendingBatch(tuple(records), chunks, for_the_caller, timing)

    def _parts(self, records: Sequence[Record]) -> Sequence[Sequence[Record]]:
        if self.chunk_bytes is None:
            size = -(-len(records) // (_CHUNKS_A_THREAD * self.threads)) or 1
            return [records[start : start + size] for start in range(0, len(records), size)]
        return _parts_of(records, self.chunk_bytes)

    def close(self) -> None:
        """Cancel what was not begun, end the processes and wait for the rest. No batch may be submitted after it."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
        if self._processes is not None:
            self._processes.close()
        if self._executor is not None:
            self._executor.shutdown()


class _Chunk:
    """Neighbouring records, decoded by a thread of the pool or by the one that asks for them.

    one_by_one  the records that are left are not decoded if it is cancelled meanwhile
    """

    def __init__(
        self, decode: DecodesRecords, records: Sequence[Record], timing: _Timing, *, one_by_one: bool
    ) -> None:
        self._decode = decode
        self._records = records
        self._timing = timing
        self._one_by_one = one_by_one
        self._is_cancelled = False
        self._future: Future[Sequence[Outcome]] = Future()

    def hand_to(self, executor: ThreadPoolExecutor) -> None:
        self._future = executor.submit(self._run)

    @property
    def is_done(self) -> bool:
        return self._future.done()

    def cancel(self) -> None:
        self._is_cancelled = True
        self._future.cancel()

    def decode_unless_begun(self) -> None:
        """What was cancelled before it began is free to be decoded here."""
        if self._future.cancel():
            decoded: Future[Sequence[Outcome]] = Future()
            decoded.set_result(self._run())
            self._future = decoded

    def result(self, require_wanted: Callable[[], None]) -> Sequence[Outcome]:
        while wait([self._future], _LOOK_SECONDS).not_done:
            require_wanted()
        if self._future.cancelled():
            raise BatchAbandonedError
        return self._future.result()

    def _run(self) -> Sequence[Outcome]:
        self._timing.chunk_begun()
        try:
            if not self._one_by_one:
                return self._decode(self._records)
            outcomes: list[Outcome] = []
            for record in self._records:
                if self._is_cancelled:
                    raise BatchAbandonedError
                outcomes += self._decode([record])
            return outcomes
        finally:
            self._timing.chunk_ended()


class _Timing:
    """The stage of a batch, from the first chunk that is begun to the end of the last; from any threads."""

    def __init__(self, stage: StageTimer, chunks: int) -> None:
        self._stage = stage
        self._left = chunks
        self._has_begun = False
        self._running = ExitStack()
        self._lock = threading.Lock()

    def chunk_begun(self) -> None:
        with self._lock:
            if not self._has_begun:
                self._has_begun = True
                self._running.enter_context(self._stage("decode"))

    def chunk_ended(self) -> None:
        with self._lock:
            self._left -= 1
            if not self._left:
                self._running.close()

    def end(self) -> None:
        """Nothing more is begun."""
        with self._lock:
            self._has_begun = True
            self._running.close()


def _parts_of(records: Sequence[Record], chunk_bytes: int) -> list[Sequence[Record]]:
    """Neighbours together until they have the bytes that are worth a hand-over."""
    parts: list[list[Record]] = []
    room = 0
    for record in records:
        if not parts or room <= 0:
            parts.append([])
            room = chunk_bytes
        parts[-1].append(record)
        room -= len(record.value or b"")
    return list(parts)


def decode_records(decoder: Decoder, records: Sequence[Record]) -> list[Outcome]:
    """The records decoded in this thread. Raises only what says that memory ran out."""
    outcomes = decoder.decode_each(records)
    # A shape that is expected bounds the sample.
    is_bounded = decoder.expected_shape is not None
    return outcomes if is_bounded else [_within_bounds(decoder, each) for each in outcomes]


def _within_bounds(decoder: Decoder, outcome: Outcome) -> Outcome:
    """Refuses a sample larger than a record may be, where no shape bounds it.

    A small picture file may be one of millions of pixels, and a tile of them takes the process down.
    """
    if not isinstance(outcome, Sample):
        return outcome
    size, most = sum(leaf.nbytes for _, leaf in leaves(outcome.inputs)), decoder.max_record_bytes
    if size <= most:
        return outcome
    return Rejection(
        Reason.TOO_LARGE,
        f"the sample is {size} bytes of numbers, at most {most} are computed with where no shape is expected "
        "(input.max_record_bytes; or set model.input_shape, or the size of input.codec)",
    )
