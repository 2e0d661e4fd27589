"""What poll, seek and input_bounds promise, on every engine."""

from __future__ import annotations

import threading
import time

import pytest

from dugs_stream.log.port import BatchLimits
from dugs_stream.records import Headers, Message
from tests.port.engines import Engine
from tests.port.owning import WAIT_SECONDS, acquire, commit, drain, messages, own, poll, send

MEGABYTE = 1024 * 1024


def keyed(count: int) -> list[Message]:
    """Messages whose keys spread over the partitions."""
    return [Message(f"key-{index % 17}".encode(), f"value-{index}".encode()) for index in range(count)]


def test_poll_returns_each_batch_by_partition_and_offset(wide_engine: Engine) -> None:
    """Inside a batch the deciding order is (partition, offset)."""
    log = own(wide_engine)
    send(wide_engine, keyed(100))

    for batch in drain(log, 100, BatchLimits(records=40, wait_ms=500, bytes=MEGABYTE)):
        places = [(sample.partition, sample.offset) for sample in batch.records]
        assert places == sorted(places)


def test_poll_in_small_batches_loses_and_doubles_nothing(wide_engine: Engine) -> None:
    """Consecutive batches hold every record of every partition once, offsets without a hole."""
    log = own(wide_engine)
    send(wide_engine, keyed(100))

    batches = drain(log, 100, BatchLimits(records=7, wait_ms=500, bytes=MEGABYTE))

    assert all(len(batch.records) <= 7 for batch in batches)
    offsets: dict[int, list[int]] = {}
    for batch in batches:
        for sample in batch.records:
            offsets.setdefault(sample.partition, []).append(sample.offset)
    assert len(offsets) == 3
    for found in offsets.values():
        assert found == list(range(len(found)))


def test_poll_names_the_next_offset_of_the_partitions_of_its_batch_only(wide_engine: Engine) -> None:
    """next_offsets holds, for each partition of the batch, the offset after its last record, and no other."""
    log = own(wide_engine)
    send(wide_engine, [Message(b"one key", b"a"), Message(b"one key", b"b")])

    polled = poll(log, 2)

    (partition,) = {sample.partition for sample in polled.records}
    assert polled.next_offsets == {partition: 2}


def test_poll_with_a_record_over_the_byte_limit_returns_it_alone(engine: Engine) -> None:
    """A record larger than limits.bytes is a batch of its own, between its smaller neighbours."""
    log = own(engine)
    send(engine, [Message(None, b"before"), Message(None, b"x" * 50_000), Message(None, b"after")])

    batches = drain(log, 3, BatchLimits(records=100, wait_ms=500, bytes=20_000))

    assert [[len(sample.value or b"") for sample in batch.records] for batch in batches] == [
        [6],
        [50_000],
        [5],
    ]


def test_poll_stops_before_the_byte_limit_is_passed(engine: Engine) -> None:
    """The values of a batch of several records add up to no more than limits.bytes."""
    log = own(engine)
    send(engine, [Message(None, b"x" * 4_000) for _ in range(10)])

    batches = drain(log, 10, BatchLimits(records=100, wait_ms=500, bytes=10_000))

    assert all(len(batch.records) <= 2 for batch in batches)


def test_poll_of_a_full_batch_does_not_wait(engine: Engine) -> None:
    """Reaching limits.records ends the wait at once."""
    log = own(engine)
    send(engine, messages(5))
    began = time.monotonic()

    polled = log.poll(BatchLimits(records=5, wait_ms=60_000, bytes=MEGABYTE))

    assert len(polled.records) == 5
    assert time.monotonic() - began < WAIT_SECONDS


def test_poll_without_records_is_empty_after_the_wait_and_idles_meanwhile(engine: Engine) -> None:
    """With nothing to read poll returns an empty batch when wait_ms are over, and burns no CPU until then."""
    log = own(engine)
    log.poll(BatchLimits(records=10, wait_ms=100, bytes=MEGABYTE))
    began, began_cpu = time.monotonic(), time.process_time()

    polled = log.poll(BatchLimits(records=10, wait_ms=1000, bytes=MEGABYTE))

    seconds, cpu_seconds = time.monotonic() - began, time.process_time() - began_cpu
    assert polled.is_empty
    assert polled.next_offsets == {}
    assert 0.9 <= seconds < 10
    assert cpu_seconds < 0.25


def test_poll_sees_a_record_that_comes_while_it_waits(engine: Engine) -> None:
    """A record stored during the wait is in the batch."""
    log = own(engine)
    sender = threading.Timer(0.2, lambda: send(engine, [Message(None, b"late")]))
    sender.start()
    try:
        polled = log.poll(BatchLimits(records=1, wait_ms=int(WAIT_SECONDS * 1000), bytes=MEGABYTE))
    finally:
        sender.join()

    assert [sample.value for sample in polled.records] == [b"late"]


def test_poll_that_ends_idling_returns_what_comes_first(engine: Engine) -> None:
    """A record that comes while nothing else was waiting does not wait for company."""
    log = own(engine)
    limits = BatchLimits(records=10, wait_ms=int(WAIT_SECONDS * 1000), bytes=MEGABYTE, ends_idling=True)
    sender = threading.Timer(0.2, lambda: send(engine, [Message(None, b"late")]))
    sender.start()
    began = time.monotonic()
    try:
        polled = log.poll(limits)
    finally:
        sender.join()

    assert [sample.value for sample in polled.records] == [b"late"]
    assert not polled.is_full
    assert time.monotonic() - began < WAIT_SECONDS


def test_poll_that_ends_idling_waits_for_the_company_of_what_was_there(engine: Engine) -> None:
    """Micro-batches of a busy stream stay full: behind a record that was waiting, the wait is the usual one."""
    log = own(engine)
    send(engine, messages(3))
    poll(log, 1)  # the others are there, or in the client's memory
    sender = threading.Timer(0.2, lambda: send(engine, [Message(None, b"late")]))
    sender.start()
    try:
        polled = log.poll(
            BatchLimits(records=3, wait_ms=int(WAIT_SECONDS * 1000), bytes=MEGABYTE, ends_idling=True)
        )
    finally:
        sender.join()

    assert [sample.value for sample in polled.records] == [b"value-1", b"value-2", b"late"]


def test_seek_alone_says_where_poll_goes_on(engine: Engine) -> None:
    """After acquire the positions are those of seek, whatever the group has committed."""
    first = own(engine)
    send(engine, messages(5))
    commit(first, poll(first, 3))
    first.close()
    log = engine.make_log()
    assert acquire(engine, log).committed == {0: 3}

    log.seek({0: 1})

    assert [sample.offset for sample in poll(log, 4).records] == [1, 2, 3, 4]


def test_seek_backwards_reads_again(engine: Engine) -> None:
    """Seeking back after polling delivers the same records with the same offsets."""
    log = own(engine)
    send(engine, messages(4))
    before = poll(log, 4)

    log.seek({0: 0})

    assert poll(log, 4).records == before.records


def test_seek_to_the_end_passes_over_what_is_there(engine: Engine) -> None:
    """Seeking to the end delivers only what is stored afterwards."""
    log = own(engine)
    send(engine, messages(3))
    log.seek({0: 3})
    send(engine, messages(1, "new"))

    polled = poll(log, 1)

    assert [(sample.offset, sample.value) for sample in polled.records] == [(3, b"new-0")]


def test_positions_are_those_of_seek_until_poll_moves_them_on(engine: Engine) -> None:
    """The positions are where the next poll looks: what seek said, then behind what was polled."""
    log = own(engine)
    send(engine, messages(5))

    log.seek({0: 2})
    sought = log.positions()
    poll(log, 2)

    assert sought == {0: 2}
    assert log.positions() == {0: 4}


def test_positions_reach_the_ends_when_everything_is_polled(wide_engine: Engine) -> None:
    """Position equal to end, on every partition, means that there is nothing left to poll."""
    log = own(wide_engine)
    send(wide_engine, keyed(30))

    drain(log, 30, BatchLimits(records=8, wait_ms=500, bytes=MEGABYTE))

    assert log.positions() == log.input_bounds()[1]


def test_input_bounds_follow_the_topic(wide_engine: Engine) -> None:
    """Beginnings and ends are per input partition, the end being the offset of the next record."""
    log = wide_engine.make_log()
    log.prepare()
    empty = log.input_bounds()
    send(wide_engine, keyed(50))

    beginnings, ends = log.input_bounds()

    assert empty == ({0: 0, 1: 0, 2: 0}, {0: 0, 1: 0, 2: 0})
    assert beginnings == {0: 0, 1: 0, 2: 0}
    assert sum(ends.values()) == 50
    assert set(ends) == {0, 1, 2}


def test_poll_names_the_topic_of_its_samples(engine: Engine) -> None:
    """A sample says where it lies: topic, partition and offset."""
    log = own(engine)
    send(engine, messages(1))

    (sample,) = poll(log, 1).records

    assert sample.id == f"{engine.topics.input}/0/0"


ODD_RECORDS: list[tuple[str, bytes | None, bytes | None, Headers]] = [
    ("tombstone", b"key", None, ()),
    ("no key", None, b"value", ()),
    ("empty key and value", b"", b"", ()),
    ("every byte", bytes(range(256)), bytes(range(256)) * 4, (("bytes", bytes(range(256))),)),
    ("headers in order, repeated", b"k", b"v", (("b", b"1"), ("a", b"2"), ("b", b"3"), ("a", b""))),
    ("header names of any script", b"k", b"v", (("名前", b"x"), ("", b"no name"), ("ключ", b"y"))),
    ("large value", b"k", bytes(range(256)) * 3_600, ()),
    ("large key", b"k" * 100_000, b"v", ()),
    ("text that looks like a number", b"0", b"1.0", (("n", b"2"),)),
]


@pytest.mark.parametrize("name", [name for name, *_ in ODD_RECORDS])
def test_poll_gives_back_what_was_sent_byte_for_byte(engine: Engine, name: str) -> None:
    """Keys, values and headers survive, null, empty, binary, repeated and large ones included."""
    (sent,) = [
        Message(key, value, headers, timestamp_ms=1_700_000_000_123)
        for each, key, value, headers in ODD_RECORDS
        if each == name
    ]
    log = own(engine)
    send(engine, [sent])

    (sample,) = poll(log, 1).records

    assert (sample.key, sample.value, sample.headers, sample.timestamp_ms) == (
        sent.key,
        sent.value,
        sent.headers,
        sent.timestamp_ms,
    )


def test_poll_gives_back_headers_without_a_value(engine: Engine) -> None:
    """A header value of None arrives as the engine says it can carry it, its neighbours untouched."""
    log = own(engine)
    send(engine, [Message(b"k", b"v", (("a", None), ("b", b"1")))])

    (sample,) = poll(log, 1).records

    assert sample.headers == (("a", engine.null_header_value), ("b", b"1"))


def test_poll_gives_a_message_without_timestamp_the_time_it_was_sent(engine: Engine) -> None:
    """A message without a timestamp gets the time of sending, in milliseconds."""
    log = own(engine)
    before_ms = time.time_ns() // 1_000_000
    send(engine, messages(1))

    (sample,) = poll(log, 1).records

    assert sample.timestamp_ms is not None
    assert before_ms - 1000 <= sample.timestamp_ms <= time.time_ns() // 1_000_000 + 1000


def test_poll_of_the_rest_of_a_batch_leaves_a_record_that_does_not_fit(engine: Engine) -> None:
    """What an earlier poll has begun is not made larger than its limit; the record is the first of the next batch."""
    log = own(engine)
    send(engine, [Message(None, b"x" * 5_000), Message(None, b"x" * 5_000)])
    poll(log, 1)

    rest = log.poll(BatchLimits(records=9, wait_ms=int(WAIT_SECONDS * 1000), bytes=4_000, is_rest=True))
    after = log.poll(BatchLimits(records=1, wait_ms=int(WAIT_SECONDS * 1000), bytes=4_000))

    assert (rest.records, rest.is_full) == ((), True)
    assert ([record.offset for record in after.records], after.is_full) == ([1], True)


def test_poll_says_whether_more_fits_into_its_batch(engine: Engine) -> None:
    """A batch that the wait has ended may be gathered further; one that is full may not."""
    log = own(engine)
    send(engine, messages(3))

    full = poll(log, 2)
    rest = log.poll(BatchLimits(records=5, wait_ms=300, bytes=MEGABYTE))

    assert (full.is_full, rest.is_full) == (True, False)
