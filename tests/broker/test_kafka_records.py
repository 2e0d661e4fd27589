"""Records: whatever a foreign client puts on the input arrives as it is, and foreign clients read our outputs."""

from __future__ import annotations

import time
import uuid

import kafka.record.default_records as kafka_decoding
import pytest
from confluent_kafka import Consumer, Producer
from kafka import KafkaAdminClient

from dugs_stream.errors import ConfigurationError
from dugs_stream.log.port import BatchLimits, Outgoing
from dugs_stream.records import Message
from tests.port.kafka_engine import KafkaEngine
from tests.support.daemons.port_steps import acquired, commit, poll_until, resume

pytestmark = pytest.mark.broker

MEGABYTE = 1024 * 1024


def foreign_producer(kafka: KafkaEngine, **settings: object) -> Producer:
    return Producer({"bootstrap.servers": kafka.address, **settings})


def read_by_a_foreign_client(
    kafka: KafkaEngine, topic: str, count: int
) -> list[tuple[bytes | None, bytes | None]]:
    """Keys and values of `count` committed records, and nothing after them within half a second."""
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.address,
            "group.id": f"foreign-{uuid.uuid4().hex[:8]}",
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe([topic])
    found: list[tuple[bytes | None, bytes | None]] = []
    ends_at = time.monotonic() + 20
    try:
        while len(found) < count and time.monotonic() < ends_at:
            message = consumer.poll(0.2)
            if message is not None:
                assert message.error() is None, message.error()
                found.append((message.key(), message.value()))
        assert consumer.poll(0.5) is None
    finally:
        consumer.close()
    return found


def test_foreign_producers_records_arrive_and_a_foreign_consumer_reads_what_is_committed(
    kafka: KafkaEngine,
) -> None:
    """Input produced by confluent-kafka is polled; it reads back, read_committed, exactly what was committed."""
    log = kafka.make_log()
    log.prepare()
    producer = foreign_producer(kafka)
    for number in range(20):
        producer.produce(
            kafka.topics.input, key=b"k%d" % number, value=b"v%d" % number, headers=[("label", b"7")]
        )
    assert producer.flush(20) == 0
    resume(log)
    polled = poll_until(log, 20, limits=BatchLimits(20, 5_000, MEGABYTE))
    with log.transaction(polled) as aborted:
        aborted.publish([Outgoing(kafka.topics.unique, Message(b"never", b"never"))])
    resume(log)
    again = poll_until(log, 20, limits=BatchLimits(20, 5_000, MEGABYTE))
    messages = [Message(sample.key, sample.value, sample.headers) for sample in again.records]
    commit(log, again, {kafka.topics.unique: messages}, kafka.topics.changelog)

    found = read_by_a_foreign_client(kafka, kafka.topics.unique, 20)

    assert again.records == polled.records
    assert again.records[0].headers == (("label", b"7"),)
    assert found == [(b"k%d" % number, b"v%d" % number) for number in range(20)]


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_compressed_records_are_read(kafka: KafkaEngine, codec: str) -> None:
    """Every codec a producer may choose can be read by an installed daemon."""
    log = kafka.make_log()
    log.prepare()
    producer = foreign_producer(kafka, **{"compression.type": codec})
    producer.produce(kafka.topics.input, value=b"compressible " * 1000)
    assert producer.flush(20) == 0
    resume(log)

    assert poll_until(log, 1).records[0].value == b"compressible " * 1000


def test_codec_without_its_library_is_an_error_and_not_an_endless_poll(
    kafka: KafkaEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A poll that cannot decompress says what is missing, and the consumer that would spin is dropped."""
    log = kafka.make_log()
    log.prepare()
    producer = foreign_producer(kafka, **{"compression.type": "zstd"})
    producer.produce(kafka.topics.input, value=b"compressible " * 1000)
    assert producer.flush(20) == 0
    resume(log)
    monkeypatch.setattr(kafka_decoding.codecs, "has_zstd", lambda: False)

    with pytest.raises(ConfigurationError, match="zstd"):
        poll_until(log, 1)

    assert log._group.consumer is None
    monkeypatch.undo()
    resume(log)
    assert len(poll_until(log, 1).records) == 1


def test_record_larger_than_every_limit_is_still_polled_alone(kafka: KafkaEngine) -> None:
    """A record larger than the batch and than a fetch arrives whole, so that it can be rejected by name."""
    large = b"x" * (5 * MEGABYTE)
    admin = KafkaAdminClient(bootstrap_servers=kafka.address)
    admin.create_topics(
        {
            kafka.topics.input: {
                "num_partitions": 1,
                "replication_factor": 1,
                "configs": {"max.message.bytes": str(6 * MEGABYTE)},
            }
        },
        wait_for_metadata=True,
    )
    admin.close()
    log = kafka.make_log()
    log.prepare()
    writer = kafka.writer()
    for value in (b"before", large, b"after"):
        writer.send(kafka.topics.input, Message(None, value))
    writer.close()
    resume(log)
    small = BatchLimits(records=10, wait_ms=3_000, bytes=MEGABYTE)

    batches = [[sample.value for sample in poll_until(log, 1, limits=small).records] for _ in range(3)]

    assert batches == [[b"before"], [large], [b"after"]]


def test_missing_keys_values_and_header_values_travel(kafka: KafkaEngine) -> None:
    """Null key, null value and null header values are read as None and written again without an error."""
    log = kafka.make_log()
    log.prepare()
    producer = foreign_producer(kafka)
    producer.produce(kafka.topics.input, key=None, value=b"no key", headers=[("a", None), ("a", b"2")])
    producer.produce(kafka.topics.input, key=b"tombstone", value=None)
    producer.produce(kafka.topics.input, key=None, value=None)
    assert producer.flush(20) == 0
    resume(log)
    polled = poll_until(log, 3, limits=BatchLimits(3, 5_000, MEGABYTE))

    messages = [Message(sample.key, sample.value, sample.headers) for sample in polled.records]
    commit(log, polled, {kafka.topics.dead_letter: messages}, kafka.topics.changelog)
    written = list(kafka.reader().read(kafka.topics.dead_letter, follow=False, stop=lambda: False))

    assert [(sample.key, sample.value) for sample in polled.records] == [
        (None, b"no key"),
        (b"tombstone", None),
        (None, None),
    ]
    assert polled.records[0].headers == (("a", None), ("a", b"2"))
    assert [(sample.key, sample.value) for sample in written] == [
        (None, b"no key"),
        (b"tombstone", None),
        (None, b""),
    ]
    assert written[0].headers == (("a", b""), ("a", b"2"))


def test_partitions_added_to_the_input_are_owned_after_a_restart(kafka: KafkaEngine) -> None:
    """An input that grew is owned whole by the next acquisition, and asks for a position of the new partition."""
    log = kafka.make_log()
    log.prepare()
    resume(log)
    log.close()
    admin = KafkaAdminClient(bootstrap_servers=kafka.address)
    admin.create_partitions({kafka.topics.input: 3})
    admin.wait_for_topics([kafka.topics.input])
    admin.close()

    grown = kafka.make_log()
    grown.prepare()

    assert set(acquired(grown).beginnings) == {0, 1, 2}


def test_writer_to_a_topic_that_is_not_there_is_refused_by_name(kafka: KafkaEngine) -> None:
    """A misspelt topic is told at once, and never made by the way."""
    with pytest.raises(ConfigurationError, match="no-such-topic"):
        kafka.writer().send("no-such-topic", Message(b"k", b"v"))


def test_reader_of_a_topic_that_is_not_there_is_refused_by_name(kafka: KafkaEngine) -> None:
    """Reading a misspelt topic is an error and not an endless silence."""
    with pytest.raises(ConfigurationError, match="no-such-topic"):
        next(kafka.reader().read("no-such-topic", follow=True, stop=lambda: False))
