"""When records come over the wire: in the background, while those before them are judged."""

from __future__ import annotations

import pytest
from kafka.net.selector import NetworkSelector

from dugs_stream.log.kafka.log import KafkaLog
from dugs_stream.log.port import BatchLimits
from dugs_stream.records import Message
from tests.port.kafka_engine import KafkaEngine
from tests.support.daemons.port_steps import resume
from tests.support.waiting import wait_until

pytestmark = pytest.mark.broker

_AT_ONCE = BatchLimits(records=100, wait_ms=0, bytes=1 << 20)


def send(kafka: KafkaEngine, count: int) -> None:
    writer = kafka.writer()
    for number in range(count):
        writer.send(kafka.topics.input, Message(b"k", b"value-%d" % number))
    writer.close()


def owner_with_records_in_memory(kafka: KafkaEngine, count: int) -> KafkaLog:
    log = kafka.make_log()
    log.prepare()
    send(kafka, count)
    resume(log)
    wait_until(lambda: bool(log.poll(BatchLimits(1, 100, 1 << 20)).records), 20, "the first record")
    return log


def test_poll_of_records_in_memory_waits_for_no_other_thread(
    kafka: KafkaEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each wait for the network thread costs as much as judging a record, on a busy machine more."""
    log = owner_with_records_in_memory(kafka, 1000)
    waits: list[object] = []
    run = NetworkSelector.run
    monkeypatch.setattr(
        NetworkSelector, "run", lambda net, *about: (waits.append(about[0]), run(net, *about))[1]
    )

    batches = [log.poll(_AT_ONCE).records for _ in range(9)]

    assert [len(records) for records in batches] == [100] * 9
    assert waits == []


def test_next_response_comes_before_its_records_are_asked_for(kafka: KafkaEngine) -> None:
    """Each record fills a response: with one in hand, the next lies in memory without another poll."""
    log = kafka.make_log()
    log.prepare()
    writer = kafka.writer()
    for number in range(3):
        writer.send(kafka.topics.input, Message(b"k", bytes([number]) * 3_000_000))
    writer.close()
    resume(log)
    limits = BatchLimits(records=1, wait_ms=100, bytes=1 << 26)
    wait_until(lambda: bool(log.poll(limits).records), 20, "the first record")

    fetcher = log._group.consumer._fetcher
    wait_until(lambda: bool(fetcher._completed_fetches), 20, "the next response")
