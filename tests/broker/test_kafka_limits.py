"""Back-pressure on a real broker: memory stays within the batch's limit, whatever lies on the topic."""

from __future__ import annotations

import pytest
from confluent_kafka import Producer
from kafka import KafkaAdminClient, TopicPartition

from dugs_stream.errors import LogUnavailableError, OwnershipLostError
from dugs_stream.log.port import BatchLimits
from tests.port.kafka_engine import KafkaEngine
from tests.support.daemons.port_steps import acquired, commit, poll_until, resume, stop_after
from tests.support.waiting import wait_until

pytestmark = pytest.mark.broker

MB = 1024 * 1024


def produce(kafka: KafkaEngine, values: list[bytes], topic: str | None = None, **settings: object) -> None:
    """Records by a foreign client, compressed so that a fetch holds far more than it weighs."""
    producer = Producer(
        {
            "bootstrap.servers": kafka.address,
            "message.max.bytes": 16 * MB,
            "compression.type": "zstd",
            **settings,
        }
    )
    for value in values:
        producer.produce(topic or kafka.topics.input, value=value)
        producer.flush(20)


@pytest.mark.parametrize(("record_bytes", "records"), [(150_000, 300), (5 * MB, 24)], ids=["150 KB", "5 MB"])
def test_backlog_of_large_records_never_holds_more_than_the_limit_and_one_record(
    kafka: KafkaEngine, record_bytes: int, records: int
) -> None:
    """45 and 120 MB that travel as some kilobytes: what was unpacked is bounded by the limit, not by the fetch."""
    log = kafka.make_log()
    log.prepare()
    produce(kafka, [bytes([number % 256]) * record_bytes for number in range(records)])
    resume(log)
    limits = BatchLimits(records=256, wait_ms=200, bytes=12 * MB)
    came, most = 0, 0

    def enough() -> bool:
        nonlocal came, most
        polled = log.poll(limits)
        pending = (record for record, _size in log._polling._pending)
        in_hand = sum(len(sample.value or b"") for sample in (*polled.records, *pending))
        most = max(most, in_hand)
        came += len(polled.records)
        return came >= records

    wait_until(enough, 60, f"{records} records")

    print(f"held at most {most / MB:.1f} MB under a limit of {limits.bytes / MB:.0f} MB")
    assert came == records
    assert most <= limits.bytes + record_bytes


def test_small_records_after_large_ones_fill_batches_again(kafka: KafkaEngine) -> None:
    """What was learned of large records is forgotten with them."""
    log = kafka.make_log()
    log.prepare()
    produce(kafka, [b"x" * 5 * MB] * 3 + [b"small"] * 600)
    resume(log)
    sizes: list[int] = []

    def enough() -> bool:
        sizes.append(len(log.poll(BatchLimits(records=100, wait_ms=300, bytes=12 * MB)).records))
        return sum(sizes) >= 603

    wait_until(enough, 60, "all records")

    assert sizes.count(100) >= 5


def test_records_deleted_under_an_owner_lead_it_through_recovery(kafka: KafkaEngine) -> None:
    """Retention that is quicker than deciding is no reason to die: recovery sees the new beginning."""
    log = kafka.make_log()
    log.prepare()
    produce(kafka, [b"value"] * 30)
    resume(log)
    admin = KafkaAdminClient(bootstrap_servers=kafka.address)
    admin.delete_records({TopicPartition(kafka.topics.input, 0): 20})
    admin.close()

    def find_out() -> None:
        ends = stop_after(30)
        log.seek({0: 5})  # nothing of it is buffered any more
        while not ends():
            log.poll(BatchLimits(records=10, wait_ms=100, bytes=MB))

    with pytest.raises(OwnershipLostError, match="gone from the input"):
        find_out()

    ownership = acquired(log)
    assert ownership.beginnings == {0: 20}


def test_foreign_open_transaction_on_the_changelog_is_waited_for_and_named(kafka: KafkaEngine) -> None:
    """It hides what we committed behind it: going on would forget those uniques, so nobody owns until it is over."""
    owner, successor = kafka.make_log(), kafka.make_log()
    owner.prepare()
    produce(kafka, [b"value"] * 10)
    resume(owner)
    foreign = Producer(
        {"bootstrap.servers": kafka.address, "transactional.id": f"foreign-{kafka.topics.group}"}
    )
    foreign.init_transactions(20)
    foreign.begin_transaction()
    foreign.produce(kafka.topics.changelog, key=b"stray", value=b"stray", partition=0)
    foreign.flush(20)
    commit(owner, poll_until(owner, 10), {}, kafka.topics.changelog)
    owner.close()

    with pytest.raises(
        LogUnavailableError, match=r"open transaction of another producer hides .*from position 0"
    ):
        successor.acquire(stop_after(30))
    foreign.abort_transaction(20)

    ownership = acquired(successor)
    assert ownership.committed == {0: 10}
    assert len(list(successor.read_changelog(ownership.changelog_start, ownership.changelog_end))) == 1


def test_bounds_may_be_asked_while_another_log_owns(kafka: KafkaEngine) -> None:
    """A standby's looks cost the owner nothing: it stays in its generation, and no rebalance comes of them."""
    owner, onlooker = kafka.make_log(), kafka.make_log()
    owner.prepare()
    onlooker.prepare()
    resume(owner)
    before = owner._group.require_owned().metadata

    for _ in range(3):
        onlooker.changelog_bounds()
        onlooker.committed_offsets()
        owner.poll(BatchLimits(records=1, wait_ms=50, bytes=MB))

    assert owner._group.require_owned().metadata == before
