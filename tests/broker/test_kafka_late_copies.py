"""Copies of a transaction's requests that arrive during the next one, straight at the broker and past every guard.

What of them the broker refuses by version 2 (KIP-890), and what it takes by version 1. The daemon's own guard against
the latter is the connection watch (test_kafka_markers, and the late requests of tests/faults/network.py).
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import pytest
from kafka import TopicPartition
from kafka.errors import NoError, for_code
from kafka.protocol.api_key import ApiKey
from kafka.protocol.parser import KafkaProtocol
from kafka.structs import OffsetAndMetadata

from dugs_stream.log.kafka.batches import Batches
from dugs_stream.log.kafka.client import consumer_of
from dugs_stream.log.kafka.compat import await_result
from dugs_stream.log.kafka.handshake import host_and_port
from dugs_stream.log.kafka.transaction import close_producer, open_fencing_producer, transactional_id
from dugs_stream.log.kafka.transactions_v2 import completion_of_last, speaks_second
from dugs_stream.log.port import BatchLimits
from dugs_stream.records import Message
from tests.port.kafka_engine import KafkaEngine
from tests.port.topics import fresh_topics
from tests.support.brokers.versions import transactions_of_version
from tests.support.daemons.port_steps import commit, read_values, resume
from tests.support.waiting import wait_until
from tools.broker import Broker

pytestmark = pytest.mark.broker

_ANSWER_SECONDS = 10.0
_TRANSACTIONAL = {
    ApiKey.Produce,
    ApiKey.AddPartitionsToTxn,
    ApiKey.AddOffsetsToTxn,
    ApiKey.TxnOffsetCommit,
    ApiKey.EndTxn,
}


class Wire:
    """The transactional requests as they went over any connection: kind, version, bytes and the answer's class."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
        self._address = host_and_port(address)
        self.sent: list[tuple[ApiKey, int, bytes, Any]] = []
        send_request = KafkaProtocol.send_request

        def noting(protocol: KafkaProtocol, request: Any, **keywords: Any) -> Any:
            number = send_request(protocol, request, **keywords)
            if request.API_KEY in _TRANSACTIONAL:
                answers = request.header.get_response_class()
                frame = bytes(protocol.bytes_to_send[-1])
                self.sent.append((ApiKey(request.API_KEY), request.API_VERSION, frame, answers))
            return number

        monkeypatch.setattr(KafkaProtocol, "send_request", noting)

    def kinds(self) -> list[tuple[ApiKey, int]]:
        return [(kind, version) for kind, version, _frame, _answers in self.sent]

    def send_again(self, wanted: ApiKey) -> list[str]:
        """A copy on a connection of its own; the names of the errors that the broker answers."""
        (frame, answers), *_ = ((frame, answers) for kind, _, frame, answers in self.sent if kind == wanted)
        with socket.create_connection(self._address, _ANSWER_SECONDS) as plug:
            plug.sendall(frame)
            whole = plug.makefile("rb")
            body = whole.read(int.from_bytes(whole.read(4), "big"))
        answer = _decoded(answers, body)
        return [for_code(code).__name__ for code in _codes(answer.to_dict()) if code != NoError.errno]


def _decoded(answers: Any, body: bytes) -> Any:
    buffer = BytesIO(body)
    answers.parse_header(buffer)
    return answers.decode(buffer)


def _codes(found: Any) -> Iterator[int]:
    """Every error code in an answer."""
    if isinstance(found, dict):
        for name, value in found.items():
            if name == "error_code":
                yield value
            else:
                yield from _codes(value)
    elif isinstance(found, list):
        for each in found:
            yield from _codes(each)


class Client:
    """One producer of a deployment, without the daemon's guards."""

    def __init__(self, engine: KafkaEngine) -> None:
        self._topics = engine.topics
        self.producer = open_fencing_producer(engine.settings, transactional_id(engine.topics), 1024 * 1024)

    def begin(self, number: int) -> None:
        """A transaction with one event and the offset after record `number`, before its end."""
        await_result(completion_of_last(self.producer), "the end of the transaction before")
        self.producer.begin_transaction()
        batches = Batches(self.producer)
        batches.add(self._topics.unique, Message(b"k", b"event-%d" % number))
        batches.send()
        batches.await_all(_ANSWER_SECONDS)
        offsets = {TopicPartition(self._topics.input, 0): OffsetAndMetadata(number + 1, "")}
        self.producer.send_offsets_to_transaction(offsets, self._topics.group)


@contextmanager
def client_of(engine: KafkaEngine, level: int) -> Iterator[Client]:
    log = engine.make_log()
    log.prepare()
    with transactions_of_version(level, engine.address):
        client = Client(engine)
    try:
        yield client
    finally:
        close_producer(client.producer)


@pytest.fixture
def kafka(killable: Broker) -> Iterator[KafkaEngine]:
    engine = KafkaEngine(killable.address, fresh_topics())
    yield engine
    engine.close()


def committed_offset(kafka: KafkaEngine) -> int | None:
    with consumer_of(kafka.settings, kafka.topics.group) as consumer:
        found = consumer.committed(TopicPartition(kafka.topics.input, 0))
    return None if found is None or found < 0 else int(found)


def test_late_copies_by_version_2_are_refused_by_their_epoch(
    kafka: KafkaEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each request of a committed transaction comes again in the next: no error passes, and nothing changes."""
    with client_of(kafka, 2) as client:
        assert speaks_second(client.producer)
        wire = Wire(monkeypatch, kafka.address)
        client.begin(0)
        client.producer.commit_transaction()
        assert wire.kinds() == [(ApiKey.Produce, 12), (ApiKey.TxnOffsetCommit, 5), (ApiKey.EndTxn, 5)]
        client.begin(1)

        refused = {
            kind: wire.send_again(kind) for kind in (ApiKey.Produce, ApiKey.TxnOffsetCommit, ApiKey.EndTxn)
        }
        client.producer.abort_transaction()

        assert all(refused.values()), refused
        assert read_values(kafka.reader(), kafka.topics.unique) == [b"event-0"]
        assert committed_offset(kafka) == 1
        client.begin(1)
        client.producer.commit_transaction()
        wait_until(
            lambda: read_values(kafka.reader(), kafka.topics.unique) == [b"event-0", b"event-1"],
            _ANSWER_SECONDS,
            "the markers",
        )


def test_late_end_by_version_1_ends_the_next_transaction(
    kafka: KafkaEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hole that version 2 closes, and for which the daemon ends its ownership with a connection lost in a transaction."""
    with client_of(kafka, 1) as client:
        assert not speaks_second(client.producer)
        wire = Wire(monkeypatch, kafka.address)
        client.begin(0)
        client.producer.commit_transaction()
        assert {kind for kind, _version in wire.kinds()} == _TRANSACTIONAL
        client.begin(1)

        refused = wire.send_again(ApiKey.EndTxn)

        assert refused == []
        wait_until(
            lambda: read_values(kafka.reader(), kafka.topics.unique) == [b"event-0", b"event-1"],
            _ANSWER_SECONDS,
            "what was not to be committed",
        )


@pytest.mark.parametrize(("first", "then"), [(1, 2), (2, 1)], ids=["raised", "lowered"])
def test_cluster_whose_version_changes_under_an_owner_loses_and_doubles_nothing(
    kafka: KafkaEngine, first: int, then: int
) -> None:
    """The owner goes on as it began, and the next one by what it finds."""
    writer = kafka.writer()
    log = kafka.make_log()
    log.prepare()
    for number in range(3):
        writer.send(kafka.topics.input, Message(b"k", b"value-%d" % number))
    writer.close()
    one = BatchLimits(records=1, wait_ms=5000, bytes=1 << 20)

    def decide(event: bytes) -> None:
        commit(log, log.poll(one), {kafka.topics.unique: [Message(b"k", event)]}, kafka.topics.changelog)

    with transactions_of_version(first, kafka.address):
        resume(log)
        decide(b"event-0")
        with transactions_of_version(then, kafka.address):
            decide(b"event-1")
            assert speaks_second(log._producer) is (first == 2)
            log._give_up()
            assert resume(log).committed == {0: 2}
            assert speaks_second(log._producer) is (then == 2)
            decide(b"event-2")

    assert resume(log).committed == {0: 3}
    assert read_values(kafka.reader(), kafka.topics.unique) == [b"event-0", b"event-1", b"event-2"]
