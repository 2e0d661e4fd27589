"""Where a broker lost the markers of a transaction that it calls complete, the next owner supplies them.

A broker loses them by dying within milliseconds (tests/faults, "broker killed during commit"). Here the same state is
made by hand, on a broker that does not check whether a partition is part of a transaction: records of our own
producer id lie on the topics, and the coordinator knows nothing of them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import nullcontext

import pytest
from kafka import TopicPartition
from kafka.producer.transaction_manager import TransactionState

from dugs_stream.errors import LogUnavailableError
from dugs_stream.log.kafka import markers
from dugs_stream.log.kafka.client import consumer_of
from dugs_stream.log.kafka.log import KafkaLog
from dugs_stream.log.kafka.markers import MARKERS_SECONDS, MarkerWatch, last_outcome
from dugs_stream.log.kafka.offsets import hidden
from dugs_stream.log.kafka.transaction import transactional_id
from dugs_stream.log.kafka.transactions_v2 import speak_first, speaks_second
from dugs_stream.log.port import Outgoing
from dugs_stream.records import Message
from tests.port.kafka_engine import KafkaEngine
from tests.port.topics import fresh_topics
from tests.support.brokers.versions import transactions_of_version
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
    is_second = speaks_second(producer)
    speak_first(producer)  # by which the coordinator hears of a partition from the client alone
    producer.begin_transaction()
    partitions = {TopicPartition(topic, 0) for topic in (kafka.topics.unique, kafka.topics.changelog)}
    producer._transaction_manager._partitions_in_transaction |= partitions
    for topic, message in ((kafka.topics.unique, event), (kafka.topics.changelog, b'{"hanging": true}')):
        producer.send(topic, key=b"hanging", value=message, partition=0).get(10)
    producer._transaction_manager._transition_to(TransactionState.COMMITTING_TRANSACTION)
    producer._transaction_manager._complete_transaction()  # as the client believes after an answered commit
    producer._transaction_manager.speaks_second = is_second


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


@pytest.mark.parametrize("level", [1, 2])
def test_connection_lost_after_a_commit_supplies_its_markers_before_anything_is_sent(
    kafka: KafkaEngine, level: int
) -> None:
    """The batch in hand is given up, whole, for the sake of the one before it; then it is decided again.

    By version 1 it supplies the markers itself, since it has begun for the coordinator; by version 2, recovery does.
    """
    with transactions_of_version(level, kafka.address):
        log = owner_of(kafka)
    publish(kafka, log, b"first")
    leave_hanging(kafka, log, b"hanging")
    log.seek({0: 0})
    polled = poll_until(log, 1)
    log._producer._sender._client._manager.lost_connection_at = time.monotonic()

    with pytest.raises(LogUnavailableError, match="connection to the broker was lost"):
        commit(log, polled, {kafka.topics.unique: [Message(b"k", b"in hand")]}, kafka.topics.changelog)

    hanging = [b"hanging"] if level == 1 else []
    assert read_values(kafka.reader(), kafka.topics.unique) == [b"first", *hanging]
    assert resume(log).committed == {0: 2}
    assert read_values(kafka.reader(), kafka.topics.unique) == [b"first", b"hanging"]


def test_connection_lost_after_an_abort_commits_nothing_of_it(kafka: KafkaEngine) -> None:
    """The markers that may be missing are those of an abort: what it hides stays hidden."""
    with transactions_of_version(1, kafka.address):
        log = owner_of(kafka)
    publish(kafka, log, b"first")
    log.seek({0: 0})
    give_up_a_batch(kafka, log)
    leave_hanging(kafka, log, b"hanging")
    log.seek({0: 0})
    polled = poll_until(log, 1)
    log._producer._sender._client._manager.lost_connection_at = time.monotonic()

    with pytest.raises(LogUnavailableError, match="connection to the broker was lost"):
        commit(log, polled, {kafka.topics.unique: [Message(b"k", b"in hand")]}, kafka.topics.changelog)

    resume(log)
    assert read_values(kafka.reader(), kafka.topics.unique) == [b"first"]


def test_connection_lost_after_a_commit_is_told_by_the_next_poll(kafka: KafkaEngine) -> None:
    """Also an idle owner goes through recovery, and finds everything there."""
    log = owner_of(kafka)
    publish(kafka, log, b"first")
    log._producer._sender._client._manager.lost_connection_at = time.monotonic()

    with pytest.raises(LogUnavailableError, match="connection to the broker was lost"):
        poll_until(log, 1, 1.0)

    assert replayed_values(log, resume(log)) == [b"{}"]
    assert log.poll(LIMITS).is_empty


def test_connection_lost_in_a_redelivery_ends_it_before_the_next_transaction(kafka: KafkaEngine) -> None:
    """A late request of one transaction cannot meet another of the same epoch; a new redelivery goes on."""
    kafka.make_log().prepare()
    redelivery = kafka.redelivery()
    redelivery.claim()
    redelivery.deliver([Message(b"k", b"one")], {0: {"": 1}})
    redelivery._producer._sender._client._manager.lost_connection_at = time.monotonic()

    with pytest.raises(LogUnavailableError, match="connection to the broker was lost"):
        redelivery.deliver([Message(b"k", b"two")], {0: {"": 2}})

    again = kafka.redelivery()
    assert again.claim() == {0: {"": 1}}
    again.deliver([Message(b"k", b"two")], {0: {"": 2}})
    assert again.marks() == {0: {"": 2}}


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


class Producer:
    """As much of a producer as tells when it lost a connection."""

    def __init__(self) -> None:
        self._sender = self._client = self._manager = self
        self.lost_connection_at = -math.inf


@pytest.mark.parametrize(
    ("lost_at", "is_disturbed"),
    [
        ("before it began", False),
        ("in it, before its commit", True),
        ("soon after its end", True),
        ("long after its end", False),
        ("in the next one", True),
    ],
)
def test_connection_lost_in_a_transaction_or_soon_after_it_disturbs_it(
    monkeypatch: pytest.MonkeyPatch, lost_at: str, is_disturbed: bool
) -> None:
    """Before it began, or long after its end, a lost connection says nothing."""
    seconds = iter([100.0, 102.0, 200.0])
    monkeypatch.setattr(markers.time, "monotonic", lambda: next(seconds))
    producer = Producer()
    watch = MarkerWatch(producer)
    watch.require_undisturbed()
    watch.began()
    watch.require_undisturbed()
    watch.verified()
    watch.ended(is_commit=True)
    watch.began()
    at = (99.9, 101.0, 102 + MARKERS_SECONDS - 1, 102 + MARKERS_SECONDS + 1, 200.1)
    places = (
        "before it began",
        "in it, before its commit",
        "soon after its end",
        "long after its end",
        "in the next one",
    )
    producer.lost_connection_at = dict(zip(places, at, strict=True))[lost_at]

    with pytest.raises(LogUnavailableError) if is_disturbed else nullcontext():
        watch.require_undisturbed()
