"""Micro-batches decoded by a pool: order, errors, cancelling, and what is left when a batch is given up."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from dugs_stream.pipeline.decode import BatchAbandonedError, DecodePool, Outcome
from dugs_stream.records import Reason, Record, Rejection
from tests.support.waiting import wait_until

CHUNK = 64 * 1024
"""Values of this size are handed over one by one."""


def large(count: int) -> list[Record]:
    """Records that are each worth a hand-over."""
    return [Record(None, bytes(CHUNK), topic="in", partition=0, offset=offset) for offset in range(count)]


def told(record: Record) -> Rejection:
    """An outcome that names its record."""
    return Rejection(Reason.UNDECODABLE, record.id)


def decode(records: Sequence[Record]) -> list[Outcome]:
    """Decodes without a codec."""
    return [told(record) for record in records]


class Gate:
    """Decodes only when it is open; counts the records that it has begun and ended."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.error: Exception | None = None

    def __call__(self, records: Sequence[Record]) -> list[Outcome]:
        """The outcomes, or the error, once the gate is open."""
        self.begun += [record.id for record in records]
        assert self.open.wait(30)
        self.ended += [record.id for record in records]
        if self.error is not None:
            raise self.error
        return decode(records)


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A gate that is open when the test is over, so that no thread is left behind it."""
    gate = Gate()
    yield gate
    gate.open.set()


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 37])
def test_outcomes_are_in_the_order_of_the_records(threads: int, count: int) -> None:
    """Also if several batches are under way, whatever is asked for first."""
    pool, batches = DecodePool(decode, threads=threads), [large(count), large(3), large(count)]

    pending = [pool.submit(batch) for batch in batches]
    found = [each.result() for each in reversed(pending)][::-1]
    pool.close()

    for records, batch in zip(batches, found, strict=True):
        assert batch.records == tuple(records)
        assert batch.outcomes == tuple(map(told, records))


def test_decoding_begins_before_the_result_is_asked_for(gate: Gate) -> None:
    """The caller computes meanwhile."""
    pool = DecodePool(gate, threads=2)

    pending = pool.submit(large(5))
    wait_until(lambda: len(gate.begun) == 2, 30, "two threads decode")
    gate.open.set()

    assert len(pending.result().outcomes) == 5


def test_small_records_are_decoded_by_the_caller() -> None:
    """A hand-over costs more than they do."""
    threads = set[int]()

    def decode_here(records: Sequence[Record]) -> list[Outcome]:
        threads.add(threading.get_ident())
        return decode(records)

    records = [Record(None, bytes(256), topic="in", partition=0, offset=offset) for offset in range(200)]
    pool = DecodePool(decode_here, threads=4)

    assert pool.submit(records).result().outcomes == tuple(map(told, records))
    assert threads == {threading.get_ident()}


def test_caller_decodes_what_no_thread_has_begun(gate: Gate) -> None:
    """It would have nothing to do but wait: while the threads are busy with the first batch, the second is its own."""
    pool = DecodePool(gate, threads=2)
    pool.submit(large(2))
    wait_until(lambda: len(gate.begun) == 2, 30, "both threads are busy")
    pending = pool.submit(large(3))
    caller = threading.Thread(target=pending.result)

    caller.start()
    wait_until(lambda: len(gate.begun) == 3, 30, "the caller decodes the last record")

    assert gate.begun[-1] == "in/0/2"
    gate.open.set()
    caller.join(30)
    assert not caller.is_alive()


def test_cancelled_batch_begins_nothing_more(gate: Gate) -> None:
    """What was begun ends by itself, and the next batch is decoded as if there had been no other."""
    pool = DecodePool(gate, threads=2)
    given_up = pool.submit(large(9))
    wait_until(lambda: len(gate.begun) == 2, 30, "both threads are busy")

    given_up.cancel()
    following = pool.submit(large(4))
    gate.open.set()

    assert following.result().outcomes == tuple(map(told, large(4)))
    pool.close()
    assert len(gate.begun) == len(gate.ended) == 2 + 4


def test_caller_that_waits_can_give_up(gate: Gate) -> None:
    """A second signal is not to wait for a slow codec; the other records are not begun any more."""
    pool = DecodePool(gate, threads=2)
    pending = pool.submit(large(2))
    wait_until(lambda: len(gate.begun) == 2, 30, "both threads are busy")
    asked: list[None] = []

    def at_the_fourth_time() -> bool:
        asked.append(None)
        return len(asked) == 4

    with pytest.raises(BatchAbandonedError):
        pending.result(at_the_fourth_time)

    assert gate.ended == []


@pytest.mark.parametrize("threads", [1, 2])
def test_cancelled_batch_has_no_result(threads: int) -> None:
    """A thread that asks for it while another gives it up is told so, and decodes nothing in vain."""
    pending = DecodePool(decode, threads=threads).submit(large(9))

    pending.cancel()

    with pytest.raises(BatchAbandonedError):
        pending.result()


def test_cancelled_batch_of_processes_has_no_result(gate: Gate) -> None:
    """Its caller only waits, and is told so as well."""
    pool = DecodePool(gate, threads=1, chunk_bytes=None)
    pending, raised = pool.submit(large(9)), list[BaseException]()

    def ask() -> None:
        try:
            pending.result()
        except BatchAbandonedError as error:
            raised.append(error)

    caller = threading.Thread(target=ask)
    caller.start()
    wait_until(lambda: len(gate.begun) > 0, 30, "the thread has begun")
    pending.cancel()
    gate.open.set()
    caller.join(30)

    assert len(raised) == 1


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("is_given_up", [False, True])
def test_each_batch_is_timed_once(threads: int, is_given_up: bool) -> None:
    """From its first record to its last, in any threads; one that nothing was begun of is not timed."""
    entered: list[str] = []
    left: list[str] = []

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        entered.append(name)
        yield
        left.append(name)

    pool = DecodePool(decode, stage, threads=threads)
    for _ in range(3):
        pending = pool.submit(large(6))
        if is_given_up:
            pending.cancel()
        else:
            pending.result()
    pool.close()

    assert entered == left
    assert set(entered) <= {"decode"}
    assert len(entered) == 3 if not is_given_up else len(entered) <= 3


@pytest.mark.parametrize("threads", [1, 3])
def test_memory_that_runs_out_is_raised_with_the_result(gate: Gate, threads: int) -> None:
    """Not earlier: the batch before it is committed first. The pool goes on with others."""
    gate.error = MemoryError()
    gate.open.set()
    pool = DecodePool(gate, threads=threads)
    pending = pool.submit(large(4))

    with pytest.raises(MemoryError):
        pending.result()

    gate.error = None
    assert pool.submit(large(4)).result().outcomes == tuple(map(told, large(4)))


@pytest.mark.parametrize("threads", [1, 3])
def test_lone_record_that_needs_more_memory_than_there_is_is_rejected(gate: Gate, threads: int) -> None:
    """It cannot be taken with fewer others, and would stop the stream at every start."""
    gate.error = MemoryError()
    gate.open.set()

    (outcome,) = DecodePool(gate, threads=threads).submit(large(1)).result().outcomes

    assert isinstance(outcome, Rejection)
    assert outcome.reason is Reason.UNDECODABLE
    assert "more memory than there is" in outcome.error


def test_with_processes_every_record_is_handed_over_and_the_caller_decodes_none(gate: Gate) -> None:
    """The threads only wait for processes, and the caller could do no more."""
    records = [Record(None, b"small", topic="in", partition=0, offset=offset) for offset in range(9)]
    ended: list[bool] = []
    pool = DecodePool(gate, threads=1, chunk_bytes=None, processes=Ending(ended))
    pending = pool.submit(records)
    wait_until(lambda: len(gate.begun) > 0, 30, "the thread has begun")
    gate.open.set()

    assert pending.result().outcomes == tuple(map(told, records))
    pool.close()
    assert ended == [True]


class Ending:
    """Processes that note their end."""

    def __init__(self, ended: list[bool]) -> None:
        self.ended = ended

    def close(self) -> None:
        """As codecs in processes."""
        self.ended.append(True)


def test_what_is_decoded_aside_takes_one_thread_alone(gate: Gate) -> None:
    """If the codec hangs on it, the other threads decode what comes after it."""
    pool = DecodePool(gate, threads=2, chunk_bytes=None)
    aside = pool.submit(large(8), is_aside=True)
    wait_until(lambda: gate.begun, 30)
    later = pool.submit(large(9)[8:])
    wait_until(lambda: len(gate.begun) == 2, 30)

    assert gate.begun == ["in/0/0", "in/0/8"]
    gate.open.set()
    assert aside.result().outcomes == tuple(told(record) for record in large(8))
    assert later.result().outcomes == (told(large(9)[8]),)
    pool.close()


def test_codec_of_its_own_threads_begins_no_further_record_of_what_was_cancelled() -> None:
    """One that hangs for long over each record would else keep the next batch from its threads for all of them."""
    gate = Gate()
    pool = DecodePool(gate, chunk_bytes=None)
    pending = pool.submit(large(40))
    wait_until(lambda: gate.begun, 30)

    pending.cancel()
    gate.open.set()
    later = pool.submit(large(41)[40:])

    assert later.result().outcomes == (told(large(41)[40]),)
    assert gate.begun == ["in/0/0", "in/0/40"]
    pool.close()
