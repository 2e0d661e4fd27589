"""Transactions: all of it or nothing, and no commit with a record missing."""

from __future__ import annotations

import pytest
from kafka import KafkaProducer
from kafka.errors import KafkaTimeoutError

from dugs_stream.errors import (
    ConfigurationError,
    LogError,
    OutcomeUnknownError,
    OwnershipLostError,
    TransactionAbortedError,
)
from dugs_stream.log.kafka.deadlines import Deadlines
from dugs_stream.log.kafka.log import KafkaLog
from dugs_stream.log.port import Outgoing, Polled
from dugs_stream.records import Message
from tests.port.kafka_engine import MAX_MESSAGE_BYTES, KafkaEngine
from tests.support.daemons.port_steps import LIMITS, commit, poll_until, read_values, replayed_values, resume

pytestmark = pytest.mark.broker


def polled_one(kafka: KafkaEngine) -> tuple[KafkaLog, Polled]:
    """An owner with one polled record in hand."""
    log = kafka.make_log()
    log.prepare()
    writer = kafka.writer()
    writer.send(kafka.topics.input, Message(b"key", b"value"))
    writer.close()
    resume(log)
    return log, poll_until(log, 1)


def test_message_too_large_for_its_topic_aborts_all_of_the_transaction(kafka: KafkaEngine) -> None:
    """A send that fails is found although flush says nothing: its neighbours do not become visible."""
    log, polled = polled_one(kafka)
    messages = [
        Message(b"a", b"small"),
        Message(b"b", b"x" * (MAX_MESSAGE_BYTES + 1000)),
        Message(b"c", b"small"),
    ]

    with pytest.raises(ConfigurationError, match="max_message_bytes"):
        commit(log, polled, {kafka.topics.unique: messages}, kafka.topics.changelog)

    assert read_values(kafka.reader(), kafka.topics.unique) == []
    ownership = resume(log)
    assert ownership.committed == {}
    assert replayed_values(log, ownership) == []
    commit(log, poll_until(log, 1), {kafka.topics.unique: messages[:1]}, kafka.topics.changelog)
    assert read_values(kafka.reader(), kafka.topics.unique) == [b"small"]


def test_send_that_fails_last_is_found_by_publish_itself(kafka: KafkaEngine) -> None:
    """Neither send nor flush says that the last message failed; its future does, before offsets are staged."""
    log, polled = polled_one(kafka)
    too_large = Outgoing(kafka.topics.unique, Message(b"b", b"x" * (MAX_MESSAGE_BYTES + 1000)))

    with log.transaction(polled) as transaction, pytest.raises(ConfigurationError, match="max_message_bytes"):
        transaction.publish([Outgoing(kafka.topics.unique, Message(b"a", b"small")), too_large])

    assert read_values(kafka.reader(), kafka.topics.unique) == []


def test_message_to_a_topic_that_is_gone_aborts_the_transaction(
    kafka: KafkaEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A send that finds no topic is an aborted transaction, and the daemon decides the batch again."""
    kafka.deadlines = Deadlines(delivery_seconds=11.0)
    log, polled = polled_one(kafka)
    monkeypatch.setitem(log._producer.config, "max_block_ms", 300)

    with pytest.raises(TransactionAbortedError, match="publishing"):
        commit(log, polled, {"no-such-topic": [Message(b"a", b"b")]}, kafka.topics.changelog)

    assert resume(log).committed == {}


def test_offsets_of_a_partition_that_is_not_owned_are_refused(kafka: KafkaEngine) -> None:
    """A partition outside the assignment cannot be committed, although the broker would take it."""
    log, polled = polled_one(kafka)

    with pytest.raises(OwnershipLostError, match=r"\[7\]"), log.transaction(polled) as transaction:
        transaction.stage_offsets(transaction.publish([]), {7: 1})

    assert resume(log).committed == {}


def test_batch_of_an_earlier_ownership_cannot_begin_a_transaction(kafka: KafkaEngine) -> None:
    """A micro-batch polled before the input was acquired anew is void."""
    log, stale = polled_one(kafka)
    log._give_up()
    resume(log)

    with pytest.raises(OwnershipLostError), log.transaction(stale):
        pass


def test_transaction_that_grew_too_old_is_aborted_and_not_committed(
    kafka: KafkaEngine,
) -> None:
    """A commit may return normally for a transaction that the broker has timed out: it is not even asked for."""
    kafka.deadlines = Deadlines(oldest_commit_seconds=0.0)
    log, polled = polled_one(kafka)

    with pytest.raises(TransactionAbortedError, match="old"):
        commit(log, polled, {kafka.topics.unique: [Message(b"k", b"never")]}, kafka.topics.changelog)

    assert read_values(kafka.reader(), kafka.topics.unique) == []


def test_commit_that_fails_with_the_records_visible_is_an_unknown_outcome(
    kafka: KafkaEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception from commit says nothing; recovery reads the committed offset and the changelog again."""
    log, polled = polled_one(kafka)
    real_commit = KafkaProducer.commit_transaction

    def answer_is_lost(producer: KafkaProducer) -> None:
        real_commit(producer)
        raise KafkaTimeoutError("the answer did not arrive")

    monkeypatch.setattr(KafkaProducer, "commit_transaction", answer_is_lost)
    with pytest.raises(OutcomeUnknownError) as unknown:
        commit(log, polled, {kafka.topics.unique: [Message(b"k", b"there")]}, kafka.topics.changelog)

    assert unknown.value.exit_code == 70
    ownership = resume(log)
    assert ownership.committed == {0: 1}
    assert replayed_values(log, ownership) == [b"{}"]
    assert read_values(kafka.reader(), kafka.topics.unique) == [b"there"]


def test_transaction_without_offsets_commits(kafka: KafkaEngine) -> None:
    """The first trailer may be written before any record was polled."""
    log = kafka.make_log()
    log.prepare()
    resume(log)

    commit(log, log.poll(LIMITS), {}, kafka.topics.changelog)

    ownership = resume(log)
    assert replayed_values(log, ownership) == [b"{}"]


def test_changelog_end_of_a_commit_lies_behind_its_last_message(kafka: KafkaEngine) -> None:
    """Reading on from there finds nothing of this transaction and all of the next."""
    log, polled = polled_one(kafka)
    committed = commit(log, polled, {kafka.topics.changelog: [Message(b"0", b"row")]}, kafka.topics.changelog)

    ownership = resume(log)

    assert list(log.read_changelog(committed.changelog_end, ownership.changelog_end)) == []


def test_transactions_after_an_error_go_on_with_a_new_producer(kafka: KafkaEngine) -> None:
    """The producer that saw an error is gone: the way on is acquire."""
    log, polled = polled_one(kafka)
    with pytest.raises(LogError), log.transaction(polled) as transaction:
        transaction.stage_offsets(transaction.publish([]), {9: 1})

    with pytest.raises(OwnershipLostError), log.transaction(polled):
        pass
    resume(log)
    commit(log, poll_until(log, 1), {}, kafka.topics.changelog)
