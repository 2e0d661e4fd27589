"""Records that the client cannot parse: each is handed out with its fault, once, and what follows is polled."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaProducer

from dugs_stream.log.kafka.log import KafkaLog
from dugs_stream.log.port import Polled
from dugs_stream.records import Record
from tests.port.kafka_engine import KafkaEngine
from tests.port.topics import fresh_topics
from tests.support.daemons.deployment import Deployment, npy_messages, on_topics
from tests.support.daemons.port_steps import commit, poll_until, resume
from tools.broker import Broker

pytestmark = pytest.mark.broker

# The first bytes of a batch: base offset, length of the rest, leader epoch, magic, checksum.
HEAD = struct.Struct(">qiibI")
LAST_OFFSET_DELTA_AT = HEAD.size + 2


@pytest.fixture
def kafka(killable: Broker) -> Iterator[KafkaEngine]:
    engine = KafkaEngine(killable.address, fresh_topics())
    yield engine
    engine.close()


class OddName(str):
    """A header's name in Latin-1, as a careless producer sends it."""

    __slots__ = ()

    def encode(self, *_arguments: object) -> bytes:
        return super().encode("latin-1")


def sending(kafka: KafkaEngine, *batches: list[bytes], compression: str | None = None) -> None:
    """Each list of values as one batch on the input."""
    producer = KafkaProducer(
        bootstrap_servers=kafka.address, linger_ms=60_000, compression_type=compression, acks="all"
    )
    for values in batches:
        for value in values:
            producer.send(kafka.topics.input, value=value)
        producer.flush(20)
    producer.close()


class Segment:
    """The file in which the broker keeps the input, changed behind its back."""

    def __init__(self, broker: Broker, topic: str) -> None:
        (self._path,) = (broker.folder / "data" / f"{topic}-0").glob("*.log")

    def batches(self) -> list[tuple[int, int]]:
        """Where each batch begins and ends."""
        content, at, found = self._path.read_bytes(), 0, []
        while at < len(content):
            _base, length, *_rest = HEAD.unpack_from(content, at)
            found.append((at, at + 12 + length))
            at += 12 + length
        return found

    def overwrite(self, at: int, content: bytes) -> None:
        with Path(self._path).open("r+b") as file:
            file.seek(at)
            file.write(content)

    def replace(self, old: bytes, new: bytes) -> None:
        self.overwrite(self._path.read_bytes().index(old), new)


def prepared(kafka: KafkaEngine) -> KafkaLog:
    log = kafka.make_log()
    log.prepare()
    return log


def polled_until(kafka: KafkaEngine, log: KafkaLog, last: int) -> list[Record]:
    """Everything up to offset `last`, each batch committed as the daemon does."""
    records: list[Record] = []
    while not records or records[-1].offset < last:
        polled: Polled = poll_until(log, 1)
        commit(log, polled, {}, kafka.topics.changelog)
        records += polled.records
    return records


def test_header_name_that_is_not_utf8_is_handed_out_with_its_bytes(kafka: KafkaEngine) -> None:
    """The record keeps key, value and headers, the name is escaped, and its neighbours are as they were."""
    log = prepared(kafka)
    producer = KafkaProducer(bootstrap_servers=kafka.address, linger_ms=60_000)
    names = [OddName("größe"), "label", OddName("naïf")]
    for number, headers in enumerate([["label"], names, ["label"]]):
        values = [(name, b"7") for name in headers]
        producer.send(kafka.topics.input, key=b"key", value=b"gr\xf6\xdfe %d" % number, headers=values)
    producer.flush(20)
    producer.close()
    resume(log)

    before, odd, after = polled_until(kafka, log, 2)

    assert (before.fault, after.fault) == (None, None)
    assert odd.fault == r"the name of a header is not UTF-8: b'gr\xf6\xdfe', b'na\xeff'"
    assert (odd.key, odd.value) == (b"key", b"gr\xf6\xdfe 1")
    assert odd.headers == ((r"gr\xf6\xdfe", b"7"), ("label", b"7"), (r"na\xeff", b"7"))
    assert after.value == b"gr\xf6\xdfe 2"


@pytest.mark.parametrize("compression", [None, "gzip", "zstd"])
def test_batch_with_a_wrong_checksum_is_handed_out_and_what_follows_is_read(
    kafka: KafkaEngine, killable: Broker, compression: str | None
) -> None:
    """Uncompressed, each record comes as it is now; compressed, the batch comes whole, in the place of its last record."""
    log = prepared(kafka)
    sending(
        kafka, [b"before"], [b"one" * 50, b"two" * 50, b"three" * 50], [b"after"], compression=compression
    )
    segment = Segment(killable, kafka.topics.input)
    (_start, end) = segment.batches()[1]
    if compression is None:
        segment.replace(b"twotwo", b"twoTwo")
    else:
        segment.overwrite(end - 12, b"\0" * 12)
    resume(log)

    before, *damaged, after = polled_until(kafka, log, 4)

    assert (before.value, before.fault, after.value, after.fault) == (b"before", None, b"after", None)
    assert all("the checksum of its batch is wrong" in (each.fault or "") for each in damaged)
    if compression is None:
        assert [each.offset for each in damaged] == [1, 2, 3]
        assert (damaged[1].value or b"").startswith(b"twoTwotwo")
    else:
        assert [each.offset for each in damaged] == [3]
        assert "from offset 1 to 3 cannot be told apart" in (damaged[0].fault or "")
        assert len(damaged[0].value or b"") > HEAD.size


@pytest.mark.parametrize("delta", [-5, 2**30])
def test_damage_to_the_number_of_records_loses_no_record_behind_it(
    kafka: KafkaEngine, killable: Broker, delta: int
) -> None:
    """A batch that states a wrong last offset ends, at the latest, where the next one begins."""
    log = prepared(kafka)
    sending(kafka, [b"before"], [b"one", b"two"], [b"after"])
    segment = Segment(killable, kafka.topics.input)
    segment.overwrite(segment.batches()[1][0] + LAST_OFFSET_DELTA_AT, struct.pack(">i", delta))
    resume(log)

    records = polled_until(kafka, log, 3)

    assert [each.value for each in records if each.fault is None] == [b"before", b"after"]
    assert [each for each in records if each.fault is not None]


def test_rejected_record_is_not_handed_out_again_after_a_restart(
    kafka: KafkaEngine, killable: Broker
) -> None:
    """Once its offset is committed, the next owner begins behind it."""
    log = prepared(kafka)
    sending(kafka, [b"one", b"two"])
    Segment(killable, kafka.topics.input).replace(b"two", b"Two")
    resume(log)
    polled_until(kafka, log, 1)
    log.close()
    sending(kafka, [b"three"])

    successor = prepared(kafka)
    resume(successor)

    assert [each.value for each in poll_until(successor, 1).records] == [b"three"]


def test_damaged_marker_of_an_aborted_transaction_hides_nothing_behind_it(
    kafka: KafkaEngine, killable: Broker
) -> None:
    """The marker becomes a faulty record; records that the same producer committed behind it are polled."""
    log = prepared(kafka)
    producer = KafkaProducer(bootstrap_servers=kafka.address, transactional_id=kafka.topics.group)
    producer.init_transactions()
    for value, end in ((b"aborted", producer.abort_transaction), (b"kept", producer.commit_transaction)):
        producer.begin_transaction()
        producer.send(kafka.topics.input, value=value).get(20)
        end()
    producer.close()
    segment = Segment(killable, kafka.topics.input)
    segment.overwrite(segment.batches()[1][1] - 1, b"\xff")
    resume(log)

    records = polled_until(kafka, log, 2)

    assert [(each.offset, each.value) for each in records if each.fault is None] == [(2, b"kept")]
    assert [each.offset for each in records if each.fault is not None] == [1]


def test_daemon_makes_a_dead_letter_of_it_and_goes_on_after_a_restart(
    kafka: KafkaEngine, tmp_path: Path
) -> None:
    """Reason, fault, partition and offset are on the letter; the others are decided, the next start finds nothing to do."""
    names = kafka.topics
    deployment = Deployment(tmp_path, **on_topics(kafka.address, names))
    good, odd, last = npy_messages(3)
    deployment.send([good])
    producer = KafkaProducer(bootstrap_servers=kafka.address)
    headers = [(OddName("größe"), b"7"), *((name, value or b"") for name, value in odd.headers)]
    producer.send(names.input, key=odd.key, value=odd.value, headers=headers).get(20)
    producer.close()
    deployment.send([last])
    first = deployment.drain()
    again = deployment.drain()

    (letter,) = kafka.reader().read(names.dead_letter, follow=False, stop=lambda: False)

    added = dict(letter.headers)
    assert (letter.key, letter.value) == (odd.key, odd.value)
    assert added["dugs_reason"] == b"unreadable"
    assert added["dugs_error"] == rb"the name of a header is not UTF-8: b'gr\xf6\xdfe'"
    assert (added["dugs_partition"], added["dugs_offset"]) == (b"0", b"1")
    assert [event["type"] == "rejected" for event in deployment.events()] == [False, True, False]
    rejected = ("dugs_rejected_total", {"reason": "unreadable"})
    counts = [each.metrics.registry.get_sample_value(*rejected) for each in (first, again)]
    assert counts == [1, 0]
