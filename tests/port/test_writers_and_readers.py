"""What writers and readers beside the daemon promise, on every engine."""

from __future__ import annotations

import itertools
import threading

import pytest

from dugs_stream.errors import ConfigurationError
from dugs_stream.log.port import BatchLimits
from dugs_stream.records import Message
from tests.port.engines import Engine
from tests.port.owning import (
    WAIT_SECONDS,
    acquire,
    child,
    commit,
    drain,
    messages,
    own,
    poll,
    read_all,
    read_count,
    send,
    stop_after,
)


def prepared(engine: Engine) -> None:
    """The topics exist, and nobody owns them."""
    log = engine.make_log()
    log.prepare()
    log.close()


def test_flush_stores_what_was_sent(engine: Engine) -> None:
    """After flush every message is there for others, in the order of sending."""
    prepared(engine)
    writer = engine.writer()
    for message in messages(3):
        writer.send(engine.topics.input, message)

    writer.flush()

    values = [sample.value for sample in read_count(engine, engine.topics.input, 3)]
    assert values == [b"value-0", b"value-1", b"value-2"]


def test_flush_of_nothing_is_no_error(engine: Engine) -> None:
    """A writer that was given nothing flushes and closes, twice if asked to."""
    prepared(engine)
    writer = engine.writer()

    writer.flush()
    writer.close()
    writer.close()


def test_close_flushes(engine: Engine) -> None:
    """A writer that is closed has stored what it was given."""
    prepared(engine)
    writer = engine.writer()
    writer.send(engine.topics.input, Message(None, b"last words"))

    writer.close()

    assert [sample.value for sample in read_count(engine, engine.topics.input, 1)] == [b"last words"]


def test_records_of_one_key_share_a_partition_in_order(wide_engine: Engine) -> None:
    """The partition follows from the key, so the order within a key is that of sending."""
    prepared(wide_engine)
    send(wide_engine, [Message(f"key-{i % 5}".encode(), str(i).encode()) for i in range(60)])

    found = read_count(wide_engine, wide_engine.topics.input, 60)

    by_key = itertools.groupby(sorted(found, key=lambda each: each.key or b""), key=lambda each: each.key)
    for _, group in by_key:
        samples = list(group)
        assert len({sample.partition for sample in samples}) == 1
        numbers = [int(sample.value or b"") for sample in samples]
        assert numbers == sorted(numbers)


def test_processes_write_at_once_while_the_owner_reads(engine: Engine) -> None:
    """Several processes write and the daemon polls and commits meanwhile: every record comes once, in order."""
    log = own(engine)
    tags = ["red", "green", "blue"]
    writers = [child(engine, "write", tag, "200") for tag in tags]
    try:
        batches = drain(log, 600, BatchLimits(records=50, wait_ms=100, bytes=1024 * 1024))
        commit(log, batches[-1])
    finally:
        for writer in writers:
            with writer:
                assert writer.wait(WAIT_SECONDS) == 0

    values = [(sample.value or b"").decode() for batch in batches for sample in batch.records]
    for tag in tags:
        assert [value for value in values if value.startswith(tag)] == [f"{tag}-{i}" for i in range(200)]


def test_read_ends_at_the_end_as_of_the_call(engine: Engine) -> None:
    """Records that are stored after `read` was called are not part of it."""
    prepared(engine)
    send(engine, messages(2))
    read_count(engine, engine.topics.input, 2)
    reading = engine.reader().read(engine.topics.input, follow=False, stop=lambda: False)

    first = next(reading)
    send(engine, messages(2, "later"))

    assert [sample.value for sample in (first, *reading)] == [b"value-0", b"value-1"]


def test_read_of_an_empty_topic_ends_at_once(engine: Engine) -> None:
    """A topic without records reads as nothing."""
    prepared(engine)

    assert read_all(engine, engine.topics.unique) == []


def test_read_again_gives_the_same(engine: Engine) -> None:
    """Reading leaves no trace: no offset of the group, nothing taken away, owner undisturbed."""
    log = own(engine)
    send(engine, messages(3))
    first = read_count(engine, engine.topics.input, 3)

    assert read_all(engine, engine.topics.input) == first
    assert len(poll(log, 3).records) == 3
    log.close()
    assert acquire(engine, engine.make_log()).committed == {}


def test_read_gives_each_partition_in_order(wide_engine: Engine) -> None:
    """All partitions are read, each by offset from its beginning."""
    prepared(wide_engine)
    send(wide_engine, [Message(f"key-{i % 17}".encode(), b"v") for i in range(50)])

    found = read_count(wide_engine, wide_engine.topics.input, 50)

    offsets: dict[int, list[int]] = {}
    for sample in found:
        offsets.setdefault(sample.partition, []).append(sample.offset)
    assert len(offsets) == 3
    assert all(each == list(range(len(each))) for each in offsets.values())


def test_read_that_follows_sees_what_comes_later_and_ends_when_stopped(engine: Engine) -> None:
    """With follow, records stored after the call come too, until `stop` says so."""
    prepared(engine)
    send(engine, messages(1))
    stopped = threading.Event()
    gives_up = stop_after(WAIT_SECONDS)
    found = []

    sender = threading.Timer(0.2, lambda: send(engine, messages(2, "later")))
    sender.start()
    try:
        for sample in engine.reader().read(
            engine.topics.input, follow=True, stop=lambda: stopped.is_set() or gives_up()
        ):
            found.append(sample.value)
            if len(found) == 3:
                stopped.set()
    finally:
        sender.join()

    assert found == [b"value-0", b"later-0", b"later-1"]


def test_read_of_an_unknown_topic_is_refused_by_name(engine: Engine) -> None:
    """A topic that does not exist is a ConfigurationError that names it, not an endless wait."""
    prepared(engine)

    with pytest.raises(ConfigurationError, match="nowhere-to-be-found"):
        list(engine.reader().read("nowhere-to-be-found", follow=True, stop=stop_after(WAIT_SECONDS)))


def test_reader_sees_only_committed_records_of_the_daemon(engine: Engine) -> None:
    """What an owner published without committing stays unseen, then and later."""
    log = own(engine)
    send(engine, messages(1))
    polled = poll(log, 1)
    with log.transaction(polled):
        pass

    assert read_all(engine, engine.topics.unique) == []
    log.seek(acquire(engine, log).beginnings)
    commit(log, poll(log, 1))
    assert read_all(engine, engine.topics.unique) == []
