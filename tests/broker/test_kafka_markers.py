"""Where a broker lost the markers of a transaction that it calls complete, the next owner supplies them.

A broker loses them by dying within milliseconds (tests/faults, "broker killed during commit"). Here the same state is
made by hand, on a broker that does not check whether a partition is part of a transaction: records of our own
producer id lie on the topics, and the coordinator knows nothing of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from kafka import TopicPartition
from kafka.producer.transaction_manager import TransactionState

from dugs_stream.errors import LogUnavailableError
from dugs_stream.log.kafka.client import consumer_of
from dugs_stream.log.kafka.log import KafkaLog
from dugs_stream.log.kafka.markers import MARKERS_SECONDS, MarkerWatch, last_outcome
from dugs_stream.log.kafka.offsets import hidden
from dugs_stream.log.kafka.transaction import transactional_id
from dugs_stream.log.port import Outgoing
from dugs_stream.records import Message
from tests.port.kafka_engine import KafkaEngine
from tests.port.topics import fresh_topics
from tests.support.daemons.port_steps import LIMITS, commit, poll_until, read_values, replayed_values, resume
from tests.support.waiting import wait_until
from tools.broker import Broker

pytestmark = pytest.mark.broker


@pytest.fixture
def kafka(killable: Broker) -> Iterator[KafkaEngine]:
    engine = KafkaEngine(killable.address, fresh_topics())
    yield engine
    engine.close()


def owner_of(kafka: KafkaEngine, records: int = 2) -> KafkaLog:
    """An owner with so many records to poll."""
    log = kafka.make_log()
    log.prepare()
    writer = kafka.writer()
    for number in range(records):
        writer.send(kafka.topics.input, Message(b"key", b"value-%d" % number))
    writer.close()
    resume(log)
    return log


def publish(kafka: KafkaEngine, log: KafkaLog, event: bytes) -> None:
    """Decide whatever is polled next, with one event, and wait for the markers, which come after the answer."""
    commit(log, poll_until(log, 1), {kafka.topics.unique: [Message(b"k", event)]}, kafka.topics.changelog)
    uncommitted_reader = consumer_of(kafka.settings, None, isolation_level="read_uncommitted")
    with log._committed_reader() as committed, uncommitted_reader as uncommitted:
        partitions = [TopicPartition(topic, 0) for topic in kafka.topics.outputs]
        wait_until(lambda: hidden(committed, uncommitted, partitions) is None, 10, "the markers")


def give_up_a_batch(kafka: KafkaEngine, log: KafkaLog) -> None:
    """A transaction that the owner itself aborts."""
    with log.transaction(poll_until(log, 1)) as transaction:
        transaction.publish([Outgoing(kafka.topics.unique, Message(b"k", b"given up"))])


def leave_hanging(kafka: KafkaEngine, log: KafkaLog, event: bytes) -> None:
    """Put an event and a trailer there as a transaction whose markers never came."""
    producer = log._producer
    producer.begin_transaction()
    partitions = {TopicPartition(topic, 0) for topic in (kafka.topics.unique, kafka.topics.changelog)}
    producer._transaction_manager._partitions_in_transaction |= partitions
    for topic, message in ((kafka.topics.unique, event), (kafka.topics.changelog, b'{"hanging": true}')):
        producer.send(topic, key=b"hanging", value=message, partition=0).get(10)
    producer._transaction_manager._transition_to(TransactionState.COMMITTING_TRANSACTION)
    producer._transaction_manager._complete_transaction()  # as the client believes after an answered commit


def successor_of(kafka: KafkaEngine, log: KafkaLog) -> tuple[KafkaLog, list[bytes | None]]:
    """The next owner, and the changelog as it finds it."""
    log.close()
    successor = kafka.make_log()
    successor.prepare()
    return successor, replayed_values(successor, resume(successor))


def test_hanging_records_after_a_commit_are_committed_by_the_next_owner(kafka: KafkaEngine) -> None:
    """The coordinator's last word was commit: what lacks a marker gets one, on every topic alike."""
    log = owner_of(kafka)
    publish(kafka, log, b"first")
    leave_hanging(kafka, log, b"hanging")
    assert read_values(kafka.reader(), kafka.topics.unique) == [b"first"]

    successor, changelog = successor_of(kafka, log)

    assert changelog == [b"{}", b'{"hanging": true}']
    assert read_values(kafka.reader(), kafka.topics.unique) == [b"first", b"hanging"]
    successor.close()


def test_hanging_records_after_an_abort_are_aborted_by_the_next_owner(kafka: KafkaEngine) -> None:
    """The coordinator's last word was abort: nobody ever sees them."""
    log = owner_of(kafka)
    publish(kafka, log, b"first")
    log.seek({0: 0})
    give_up_a_batch(kafka, log)
    leave_hanging(kafka, log, b"hanging")

    successor, changelog = successor_of(kafka, log)

    assert changelog == [b"{}"]
    assert read_values(kafka.reader(), kafka.topics.unique) == [b"first"]
    successor.close()


def test_connection_lost_after_a_commit_supplies_its_markers_before_anything_is_sent(
    kafka: KafkaEngine,
) -> None:
    """The batch in hand is given up, whole, for the sake of the one before it; then it is decided again."""
    log = owner_of(kafka)
    publish(kafka, log, b"first")
    leave_hanging(kafka, log, b"hanging")
    log.seek({0: 0})
    polled = poll_until(log, 1)
    log._producer._sender._client._manager.lost_connection_at = time.monotonic()

    with pytest.raises(LogUnavailableError, match="right after a commit"):
        commit(log, polled, {kafka.topics.unique: [Message(b"k", b"in hand")]}, kafka.topics.changelog)

    assert read_values(kafka.reader(), kafka.topics.unique) == [b"first", b"hanging"]
    assert resume(log).committed == {0: 2}


def test_connection_lost_after_a_commit_is_told_by_the_next_poll(kafka: KafkaEngine) -> None:
    """Also an idle owner goes through recovery, and finds everything there."""
    log = owner_of(kafka)
    publish(kafka, log, b"first")
    log._producer._sender._client._manager.lost_connection_at = time.monotonic()

    with pytest.raises(LogUnavailableError, match="right after a commit"):
        poll_until(log, 1, 1.0)

    assert replayed_values(log, resume(log)) == [b"{}"]
    assert log.poll(LIMITS).is_empty


def test_last_outcome_is_known_for_what_is_complete_only(kafka: KafkaEngine) -> None:
    """Never used, committed, aborted, open."""
    name = transactional_id(kafka.topics)
    assert last_outcome(kafka.settings, name) is None
    log = owner_of(kafka)
    publish(kafka, log, b"first")
    assert last_outcome(kafka.settings, name) is True
    log.seek({0: 0})
    give_up_a_batch(kafka, log)
    assert last_outcome(kafka.settings, name) is False
    resume(log)
    log.seek({0: 0})
    with log.transaction(poll_until(log, 1)) as transaction:
        transaction.publish([Outgoing(kafka.topics.unique, Message(b"k", b"open"))])
        assert last_outcome(kafka.settings, name) is None


@pytest.mark.parametrize(
    ("seconds_after", "is_disturbed"),
    [(-0.001, False), (0.001, True), (MARKERS_SECONDS - 1, True), (MARKERS_SECONDS + 1, False)],
)
def test_only_a_connection_lost_soon_after_a_commit_disturbs_it(
    kafka: KafkaEngine, seconds_after: float, is_disturbed: bool
) -> None:
    """Before it was asked for, or long after it, a lost connection says nothing."""
    log = owner_of(kafka, 0)
    watch = MarkerWatch(log._producer)
    watch.require_undisturbed()
    watch.asked()
    watch.answered()
    log._producer._sender._client._manager.lost_connection_at = watch._asked_at + seconds_after

    if is_disturbed:
        with pytest.raises(LogUnavailableError):
            watch.require_undisturbed()
    else:
        watch.require_undisturbed()
