"""A broker that is gone, stalls or comes back: nothing waits for ever, and recovery finds what happened.

These tests end and stop the broker, so it is not the one of all other tests.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from dugs_stream.errors import LogError, LogUnavailableError, OutcomeUnknownError
from dugs_stream.log.kafka.deadlines import DEADLINES, Deadlines
from dugs_stream.log.kafka.log import KafkaLog
from dugs_stream.log.port import Outgoing, Polled
from dugs_stream.records import Message
from tests.port.kafka_engine import KafkaEngine
from tests.port.topics import fresh_topics
from tests.support.daemons.port_steps import commit, poll_until, read_values, replayed_values, resume
from tools.broker import Broker

pytestmark = pytest.mark.broker


@pytest.fixture
def kafka(killable: Broker) -> Iterator[KafkaEngine]:
    engine = KafkaEngine(killable.address, fresh_topics())
    yield engine
    engine.close()


@pytest.fixture
def impatient(kafka: KafkaEngine) -> None:
    """Deadlines of seconds instead of tens of seconds, in the same order; no request takes so long on a busy machine."""
    kafka.deadlines = Deadlines(
        request_seconds=4.0, delivery_seconds=6.0, flush_seconds=8.0, stage_seconds=8.0, abort_seconds=0.5
    )


def one_in_hand(kafka: KafkaEngine) -> tuple[KafkaLog, Polled]:
    log = kafka.make_log()
    log.prepare()
    writer = kafka.writer()
    writer.send(kafka.topics.input, Message(b"key", b"value"))
    writer.close()
    resume(log)
    return log, poll_until(log, 1)


def test_broker_that_stalls_in_a_commit_leaves_an_outcome_that_recovery_finds(
    kafka: KafkaEngine, killable: Broker, impatient: None
) -> None:
    """A commit's error does not say whether it happened; afterwards offset, changelog and output agree."""
    log, polled = one_in_hand(kafka)

    def commit_while_stopped() -> None:
        with log.transaction(polled) as transaction:
            flushed = transaction.publish(
                [
                    outgoing(kafka.topics.unique, b"event"),
                    outgoing(kafka.topics.changelog, b"row"),
                ]
            )
            staged = transaction.stage_offsets(flushed, polled.next_offsets)
            os.kill(killable.pid, signal.SIGSTOP)
            stalled_seconds = kafka.deadlines.request_seconds + 2
            goes_on = threading.Timer(stalled_seconds, os.kill, (killable.pid, signal.SIGCONT))
            goes_on.start()
            try:
                transaction.commit(staged)
            finally:
                goes_on.join()

    committed = True
    try:
        commit_while_stopped()
    except OutcomeUnknownError:
        committed = False

    ownership = resume(log, 30)
    events = read_values(kafka.reader(), kafka.topics.unique)
    assert (
        (ownership.committed == {0: 1})
        == (replayed_values(log, ownership) == [b"row"])
        == (events == [b"event"])
    )
    assert not committed or events == [b"event"]


def test_broker_that_dies_before_the_commit_and_comes_back_does_not_hang_it(
    kafka: KafkaEngine, killable: Broker
) -> None:
    """The coordinator's connection is down as commit is called: it ends when the broker is back, one way or other."""
    log, polled = one_in_hand(kafka)
    outcome: list[str] = []

    def commit_without_a_broker() -> None:
        try:
            with log.transaction(polled) as transaction:
                flushed = transaction.publish([outgoing(kafka.topics.unique, b"event")])
                staged = transaction.stage_offsets(flushed, polled.next_offsets)
                killable.kill()
                back = threading.Thread(target=killable.start)
                back.start()
                try:
                    transaction.commit(staged)
                finally:
                    back.join()
            outcome.append("committed")
        except LogError as error:
            outcome.append(type(error).__name__)

    thread = threading.Thread(target=commit_without_a_broker, daemon=True)
    thread.start()
    thread.join(DEADLINES.commit_watchdog_seconds - 5)

    assert not thread.is_alive(), "the commit hangs although the broker is back"
    ownership = resume(log, 30)
    events = read_values(kafka.reader(), kafka.topics.unique)
    assert (events == [b"event"]) == (ownership.committed == {0: 1})
    assert outcome != ["committed"] or events == [b"event"]


def test_broker_that_is_gone_is_told_by_every_way_in(kafka: KafkaEngine, killable: Broker) -> None:
    """Without a broker each entrance says so, with the address and the way out, instead of waiting."""
    log, _polled = one_in_hand(kafka)
    log.close()
    killable.kill()
    try:
        for entrance in (
            kafka.make_log().prepare,
            lambda: kafka.make_log().acquire(lambda: False),
            kafka.make_log().input_bounds,
            lambda: kafka.writer().send(kafka.topics.input, Message(b"k", b"v")),
            lambda: read_values(kafka.reader(), kafka.topics.unique),
        ):
            with pytest.raises(LogUnavailableError, match=killable.address):
                entrance()
    finally:
        killable.start()

    log.prepare()
    resume(log)
    commit(log, poll_until(log, 1), {}, kafka.topics.changelog)


def outgoing(topic: str, value: bytes) -> Outgoing:
    return Outgoing(topic, Message(b"key", value))
