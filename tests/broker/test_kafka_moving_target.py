"""A target that moves, on a real broker: transactions, several partitions, and a topic that is deleted and made anew."""

from __future__ import annotations

from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from dugs_stream.daemon.target_follower import TargetFollower
from dugs_stream.log.port import Outgoing
from dugs_stream.pipeline.newest_records import newest_records
from dugs_stream.pipeline.target_arrivals import Arrivals
from dugs_stream.records import Record
from tests.port.kafka_engine import KafkaEngine
from tests.port.owning import commit, messages, own, poll, send
from tests.port.topics import fresh_topics
from tests.support.brokers.kafka_admin import KafkaAdmin
from tests.support.waiting import wait_until

pytestmark = pytest.mark.broker

SECONDS = 60


def prepared(engine: KafkaEngine) -> KafkaEngine:
    """The topics exist, and nobody owns them."""
    log = engine.make_log()
    log.prepare()
    log.close()
    return engine


def test_newest_records_are_found_behind_the_markers_of_transactions(kafka: KafkaEngine) -> None:
    """Each transaction leaves an offset without a record: so many offsets back there are half as many records."""
    log = own(kafka)
    send(kafka, messages(30))
    topic = kafka.topics.unique
    for message in messages(30):
        commit(log, poll(log, 1), [Outgoing(topic, message)])
    log.close()

    found = newest_records(kafka.reader(), topic, 12)

    assert [each.value for each in found.records] == [each.value for each in messages(30)[-12:]]
    assert found.next_offsets == {0: 60}


def test_topic_deleted_and_made_anew_is_followed_again(wide_kafka: KafkaEngine) -> None:
    """While it is away the thread waits and says so once; then what the new one holds is the target."""
    engine = prepared(wide_kafka)
    send(
        engine, (replace(each, key=each.value) for each in messages(40))
    )  # by key, or one partition may get none
    topic, arrivals = engine.topics.input, Arrivals(12, 2**20)
    newest = newest_records(engine.reader(), topic, 12)
    assert sorted(newest.next_offsets) == [0, 1, 2]
    assert len(newest.records) == 12
    arrivals.topic_found(3, is_another=False)
    follower = TargetFollower(
        engine.reader, topic, 12, arrivals, newest.next_offsets, newest.topic_id, look_seconds=0.5
    )
    follower.start()
    taken: list[Record] = []

    def values() -> list[bytes | None]:
        portion = arrivals.take(12)
        taken.extend(portion.records)
        return sorted(each.value or b"" for each in taken)

    try:
        send(engine, messages(3, "later"))
        wait_until(lambda: values() == [b"later-0", b"later-1", b"later-2"], SECONDS)
        with capture_logs() as lines:
            KafkaAdmin(engine.address, engine.topics.group).delete_topic(topic)
            wait_until(lambda: any(each["event"] == "value.awaited" for each in lines), SECONDS)
            other = KafkaEngine(engine.address, replace(fresh_topics(), input=topic), partitions=1)
            prepared(other)
            taken.clear()
            send(
                other, messages(60, "new")
            )  # more than the old one had: no offset tells that it is another one
            newest_ones = sorted(f"new-{number}".encode() for number in range(48, 60))
            wait_until(lambda: values()[-12:] == newest_ones, SECONDS)
            other.close()
            told = ["value.awaited", "value.regained"]
            wait_until(lambda: [each["event"] for each in lines if "value" in each["event"]] == told, SECONDS)
    finally:
        follower.close()
    portion = arrivals.take(0)
    assert (portion.partitions, portion.topics > 0) == (1, True)
