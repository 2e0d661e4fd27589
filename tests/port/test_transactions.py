"""What a transaction promises, on every engine: all of it or nothing, and nothing before its commit."""

from __future__ import annotations

import pytest

from dugs_stream.errors import LogError
from dugs_stream.log.port import Outgoing
from dugs_stream.records import Message
from tests.port.engines import Engine
from tests.port.owning import WAIT_SECONDS, acquire, commit, messages, own, poll, read_all, read_count, send
from tests.support.waiting import wait_until


class PersonalError(Exception):
    """An error that the log knows nothing of."""


def outputs_of(engine: Engine, tag: str) -> list[Outgoing]:
    """A message for every output topic."""
    return [
        Outgoing(topic, Message(f"{tag}-key".encode(), f"{tag}-{index}".encode()))
        for index, topic in enumerate(engine.topics.outputs)
    ]


def visible(engine: Engine) -> dict[str, int]:
    """How many committed records each output topic shows."""
    return {topic: len(read_all(engine, topic)) for topic in engine.topics.outputs}


def test_commit_shows_outputs_changelog_and_offsets_together(engine: Engine) -> None:
    """After a commit every output, the changelog and the group's offsets are there."""
    log = own(engine)
    send(engine, messages(3))

    commit(log, poll(log, 3), outputs_of(engine, "a"))

    for index, topic in enumerate(engine.topics.outputs):
        (sample,) = read_count(engine, topic, 1)
        assert (sample.partition, sample.key, sample.value) == (0, b"a-key", f"a-{index}".encode())
    log.close()
    assert acquire(engine, engine.make_log()).committed == {0: 3}


def test_transaction_shows_nothing_before_its_commit(engine: Engine) -> None:
    """Readers see neither outputs nor changelog while the transaction is open, even with offsets staged."""
    log = own(engine)
    send(engine, messages(1))
    polled = poll(log, 1)
    with log.transaction(polled) as transaction:
        flushed = transaction.publish(outputs_of(engine, "a"))
        after_publish = visible(engine)
        staged = transaction.stage_offsets(flushed, polled.next_offsets)
        after_staging = visible(engine)

        transaction.commit(staged)

    assert set(after_publish.values()) == {0}
    assert set(after_staging.values()) == {0}
    for topic in engine.topics.outputs:
        assert len(read_count(engine, topic, 1)) == 1


def test_batches_polled_ahead_are_committed_one_after_the_other(engine: Engine) -> None:
    """A poll goes on behind one that is not committed yet; each commit moves the offsets to the end of its own batch."""
    log = own(engine)
    send(engine, messages(9))
    ahead = [poll(log, 3), poll(log, 3)]

    committed = []
    while ahead:
        batch = ahead.pop(0)
        if not committed:
            ahead.append(poll(log, 3))
        committed.append(commit(log, batch, outputs_of(engine, "a")).next_offsets)

    assert committed == [{0: 3}, {0: 6}, {0: 9}]
    assert log.positions() == {0: 9}
    wait_until(lambda: log.committed_offsets() == {0: 9}, WAIT_SECONDS)


def test_transaction_left_without_commit_leaves_nothing(engine: Engine) -> None:
    """Leaving the block without a commit aborts: no output, no changelog, no offset."""
    log = own(engine)
    send(engine, messages(1))
    polled = poll(log, 1)

    with log.transaction(polled) as transaction:
        transaction.stage_offsets(transaction.publish(outputs_of(engine, "a")), polled.next_offsets)

    assert set(visible(engine).values()) == {0}
    log.close()
    assert acquire(engine, engine.make_log()).committed == {}


def test_transaction_left_by_an_error_aborts_and_lets_the_error_pass(engine: Engine) -> None:
    """A foreign exception inside the block comes out as it is, and nothing of the transaction stays."""
    log = own(engine)
    send(engine, messages(1))
    polled = poll(log, 1)

    def fail_in_the_middle() -> None:
        with log.transaction(polled) as transaction:
            transaction.publish(outputs_of(engine, "a"))
            raise PersonalError("mine")

    with pytest.raises(PersonalError, match="mine"):
        fail_in_the_middle()

    assert set(visible(engine).values()) == {0}


def test_transaction_after_an_aborted_one_carries_only_its_own(engine: Engine) -> None:
    """An owner that aborted comes back through acquire and seek, and then commits what it decides anew."""
    log = own(engine)
    send(engine, messages(2))
    with log.transaction(poll(log, 2)) as transaction:
        transaction.publish(outputs_of(engine, "aborted"))
    log.seek(acquire(engine, log).beginnings)

    commit(log, poll(log, 2), outputs_of(engine, "good"))

    for index, topic in enumerate(engine.topics.outputs):
        assert [sample.value for sample in read_count(engine, topic, 1)] == [f"good-{index}".encode()]


def test_transactions_in_a_row_add_up(engine: Engine) -> None:
    """Each commit moves the offsets on and appends to the outputs, in the order of the commits."""
    log = own(engine)
    send(engine, messages(3))

    for index in range(3):
        commit(log, poll(log, 1), [Outgoing(engine.topics.unique, Message(None, f"event-{index}".encode()))])

    values = [sample.value for sample in read_count(engine, engine.topics.unique, 3)]
    assert values == [b"event-0", b"event-1", b"event-2"]
    log.close()
    assert acquire(engine, engine.make_log()).committed == {0: 3}


def test_transaction_without_messages_still_moves_the_offsets(engine: Engine) -> None:
    """A batch with nothing to publish is committed all the same."""
    log = own(engine)
    send(engine, messages(2))

    committed = commit(log, poll(log, 2))

    assert committed.next_offsets == {0: 2}
    log.close()
    assert acquire(engine, engine.make_log()).committed == {0: 2}


def test_publish_keeps_the_order_within_a_topic(engine: Engine) -> None:
    """Messages of one topic stay in the order they were published in, across several calls."""
    log = own(engine)
    send(engine, messages(1))
    polled = poll(log, 1)
    topics = engine.topics
    with log.transaction(polled) as transaction:
        first = [
            Outgoing(topics.unique if index % 2 else topics.dead_letter, Message(None, str(index).encode()))
            for index in range(300)
        ]
        assert transaction.publish(first).messages == 300
        flushed = transaction.publish([Outgoing(topics.unique, Message(None, b"last"))])
        transaction.commit(transaction.stage_offsets(flushed, polled.next_offsets))

    values = [sample.value for sample in read_count(engine, topics.unique, 151)]
    assert values == [*(str(index).encode() for index in range(1, 300, 2)), b"last"]


def test_publish_carries_every_byte(engine: Engine) -> None:
    """Outputs keep null and binary keys, tombstones, repeated headers and large values as they are."""
    log = own(engine)
    send(engine, messages(1))
    published = [
        Message(None, b"", (("h", b"1"), ("h", b"2"))),
        Message(bytes(range(256)), None, (("empty", b""),)),
        Message(b"k", bytes(range(256)) * 3_600),
    ]

    commit(log, poll(log, 1), [Outgoing(engine.topics.unique, each) for each in published])

    found = read_count(engine, engine.topics.unique, 3)
    assert [Message(each.key, each.value, each.headers) for each in found] == published


def test_commit_moves_only_the_partitions_of_its_batch(wide_engine: Engine) -> None:
    """Offsets of partitions outside the batch stay uncommitted, and stay as they are when others move."""
    log = own(wide_engine)
    send(wide_engine, [Message(b"some key", b"a")])
    first = poll(log, 1)
    commit(log, first)
    (partition,) = first.next_offsets
    log.close()

    assert acquire(wide_engine, wide_engine.make_log()).committed == {partition: 1}


def test_transaction_cannot_be_used_after_its_end(engine: Engine) -> None:
    """A transaction that was left refuses to publish, and nothing of the attempt is visible."""
    log = own(engine)
    send(engine, messages(1))
    with log.transaction(poll(log, 1)) as transaction:
        pass

    with pytest.raises(LogError):
        transaction.publish(outputs_of(engine, "late"))

    assert set(visible(engine).values()) == {0}
