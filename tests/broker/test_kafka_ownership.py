"""Ownership: one member owns the input, a zombie can do no harm, and whoever takes over goes on at the right place."""

from __future__ import annotations

from typing import Any

import pytest
from kafka import TopicPartition
from kafka.cluster import ClusterMetadata
from kafka.errors import NoOffsetForPartitionError
from kafka.structs import MemberState

from dugs_stream.errors import LogError, OwnershipLostError
from dugs_stream.log.kafka import membership as kafka_membership
from dugs_stream.log.kafka.assignor import SingleOwnerAssignor
from dugs_stream.log.kafka.deadlines import Deadlines
from dugs_stream.log.kafka.log import KafkaLog
from dugs_stream.log.kafka.transaction import close_producer, open_fencing_producer, transactional_id
from dugs_stream.log.port import BatchLimits, Outgoing
from dugs_stream.records import Message
from tests.port.kafka_engine import MAX_MESSAGE_BYTES, KafkaEngine
from tests.support.daemons.port_steps import (
    LIMITS,
    acquired,
    commit,
    poll_until,
    read_values,
    replayed_values,
    resume,
    stop_after,
)
from tests.support.waiting import wait_until

pytestmark = pytest.mark.broker

FIRST, SECOND = BatchLimits(10, 100, 10**6), BatchLimits(20, 100, 10**6)


def fill(kafka: KafkaEngine, records: int) -> None:
    writer = kafka.writer()
    for number in range(records):
        writer.send(kafka.topics.input, Message(b"key-%d" % number, b"value-%d" % number))
    writer.close()


def commit_values(kafka: KafkaEngine, log: KafkaLog, polled: Any) -> None:
    """Publish the values of a batch as they are."""
    messages = [Message(sample.key, sample.value) for sample in polled.records]
    commit(log, polled, {kafka.topics.unique: messages}, kafka.topics.changelog)


def test_position_after_a_rebalance_is_the_committed_one_and_not_the_clients_own(kafka: KafkaEngine) -> None:
    """After A polled ahead, lost the input to B, and got it back, it goes on where B committed: none twice."""
    fill_first, then = kafka.make_log(), kafka.make_log()
    fill_first.prepare()
    then.prepare()
    fill(kafka, 50)
    resume(fill_first)
    commit_values(kafka, fill_first, poll_until(fill_first, 10, limits=FIRST))
    poll_until(fill_first, 10, limits=FIRST)  # polled, never committed: the client's own position is 20
    kafka.depose(fill_first)

    resume(then)
    commit_values(kafka, then, poll_until(then, 20, limits=SECOND))
    then.close()
    # What the client holds in memory it may hand out until a heartbeat tells it; none of it can be committed.
    with pytest.raises(OwnershipLostError):
        wait_until(lambda: fill_first.poll(FIRST) is None, 30.0, "word that the input is lost")
    resume(fill_first)
    while (polled := fill_first.poll(LIMITS)).records:
        commit_values(kafka, fill_first, polled)

    assert read_values(kafka.reader(), kafka.topics.unique) == [b"value-%d" % number for number in range(50)]


def test_record_below_the_expected_offset_is_never_handed_out(kafka: KafkaEngine) -> None:
    """A client whose position went back by itself is found out by the offsets of what it returns."""
    log = kafka.make_log()
    log.prepare()
    fill(kafka, 10)
    acquired(log)
    log.seek({0: 5})
    log._polling._expected = {0: 7}  # as if the client had gone back by two on its own

    with pytest.raises(OwnershipLostError, match="gave offset 5 instead of 7 or a later one"):
        poll_until(log, 1)


def test_seek_that_leaves_a_partition_out_is_refused(wide_kafka: KafkaEngine) -> None:
    """Every partition needs a position: one left out would go on from wherever the client stands."""
    log = wide_kafka.make_log()
    log.prepare()
    acquired(log)

    with pytest.raises(ValueError, match=r"\[0, 1, 2\]"):
        log.seek({0: 0, 1: 0})


def test_fenced_producers_messages_never_become_visible(kafka: KafkaEngine) -> None:
    """A writer whose successor has called init_transactions cannot publish any more, whatever it tries."""
    log = kafka.make_log()
    log.prepare()
    fill(kafka, 10)
    resume(log)
    polled = poll_until(log, 10)
    successor = open_fencing_producer(kafka.settings, transactional_id(kafka.topics), MAX_MESSAGE_BYTES)

    with pytest.raises(LogError):
        commit_values(kafka, log, polled)

    close_producer(successor)
    assert read_values(kafka.reader(), kafka.topics.unique) == []
    ownership = resume(log)
    assert ownership.committed == {}
    assert replayed_values(log, ownership) == []


def test_open_transaction_of_a_dead_owner_is_aborted_before_the_changelog_is_looked_at(
    kafka: KafkaEngine,
) -> None:
    """Fencing comes first: the changelog's end it names is not held back by what a predecessor left open."""
    dead, successor = kafka.make_log(), kafka.make_log()
    dead.prepare()
    successor.prepare()
    fill(kafka, 20)
    resume(dead)
    commit_values(kafka, dead, poll_until(dead, 10, limits=FIRST))
    polled = poll_until(dead, 10, limits=FIRST)
    left_open = dead.transaction(polled)
    transaction = left_open.__enter__()
    transaction.publish([Outgoing(kafka.topics.changelog, Message(b"1", b"never"))])
    kafka.depose(dead)

    ownership = resume(successor)
    assert ownership.committed == {0: 10}
    assert replayed_values(successor, ownership) == [b"{}"]
    commit_values(kafka, successor, poll_until(successor, 10))

    with pytest.raises(OwnershipLostError):
        transaction.stage_offsets(transaction.publish([]), polled.next_offsets)
    left_open.__exit__(None, None, None)
    assert len(read_values(kafka.reader(), kafka.topics.unique)) == 20


def test_owner_that_did_not_poll_in_time_is_told_at_its_next_poll(
    kafka: KafkaEngine,
) -> None:
    """After max_poll_interval the client still lists its partitions under generation −1; the poll refuses."""
    kafka.deadlines = Deadlines(poll_interval_seconds=2.5)
    log = kafka.make_log()
    log.prepare()
    fill(kafka, 10)
    resume(log)
    polled = poll_until(log, 10)
    wait_until(
        lambda: log._group.consumer.group_metadata().generation_id < 0,
        20,
        "the client giving up its membership",
    )
    assert log._group._assigned() == {0}  # the trap: the assignment looks as if nothing had happened

    with pytest.raises(OwnershipLostError), log.transaction(polled):
        pytest.fail("a transaction began under a membership that is over")

    assert resume(log).committed == {}


def test_ownership_comes_back_after_an_abandoned_wait(kafka: KafkaEngine) -> None:
    """Stopping in acquire and calling it again is not an error."""
    log = kafka.make_log()
    log.prepare()
    assert log.acquire(lambda: True) is None

    assert log.acquire(stop_after(20)) is not None


def test_member_whose_client_lost_its_join_joins_anew(kafka: KafkaEngine) -> None:
    """Between two generations with nothing under way the client would wait for ever."""
    log = kafka.make_log()
    log.prepare()
    coordinator_of_stuck: list[Any] = []

    def lose_the_join() -> None:
        if not coordinator_of_stuck and log._group.consumer is not None:
            coordinator = log._group.consumer._coordinator
            coordinator_of_stuck.append(coordinator)
            coordinator._disable_heartbeat()
            coordinator.rejoin_needed, coordinator.state = False, MemberState.REBALANCING

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kafka_membership, "_is_valid", lambda _metadata: bool(lose_the_join()))
        too_late = stop_after(30)
        assert log.acquire(lambda: bool(coordinator_of_stuck) or too_late()) is None
    assert coordinator_of_stuck[0].rebalance_in_progress(), "the trap did not hold"

    assert log.acquire(stop_after(20)) is not None
    assert log._group.consumer._coordinator is not coordinator_of_stuck[0]


def test_leader_that_assigned_nothing_joins_anew(kafka: KafkaEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """An assignment made before the topic's partitions were known is not the last word."""
    log = kafka.make_log()
    log.prepare()
    assign = SingleOwnerAssignor.assign
    made: list[int] = []

    def know_nothing_at_first(assignor: SingleOwnerAssignor, cluster: Any, members: Any) -> Any:
        made.append(len(made))
        return assign(assignor, cluster if len(made) > 1 else ClusterMetadata(), members)

    monkeypatch.setattr(SingleOwnerAssignor, "assign", know_nothing_at_first)

    assert log.acquire(stop_after(20)) is not None
    assert len(made) > 1


def test_partition_that_is_new_to_an_owner_is_no_error_of_its_poll(
    kafka: KafkaEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client takes it up in the middle of a poll and knows no position for it: recovery does."""
    log = kafka.make_log()
    log.prepare()
    resume(log)

    def has_no_position(*_arguments: object, **_keywords: object) -> None:
        raise NoOffsetForPartitionError(TopicPartition(kafka.topics.input, 1))

    monkeypatch.setattr(log._group.consumer, "poll", has_no_position)

    with pytest.raises(OwnershipLostError, match="not there before"):
        log.poll(LIMITS)

    assert resume(log).committed == {}
