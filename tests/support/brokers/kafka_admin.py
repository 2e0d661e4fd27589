"""What somebody else does to a Kafka cluster behind the daemon's back, by confluent-kafka."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager

from confluent_kafka import Consumer, IsolationLevel, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._listoffsets import OffsetSpec
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewPartitions

from tests.support.waiting import wait_until

ANSWER_SECONDS = 30.0


class Foreign:
    """A stranger's open transaction."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer

    def abort(self) -> None:
        """Take it back."""
        self._producer.abort_transaction(ANSWER_SECONDS)


class KafkaAdmin:
    """Changes topics, groups and records of a cluster; each method returns once the change is visible."""

    def __init__(self, address: str, group: str) -> None:
        self._address = address
        self._group = group
        self._admin = AdminClient({"bootstrap.servers": address})

    # -- the group -------------------------------------------------------------------------------------

    def forget_offsets(self) -> None:
        """As if they had expired. The group must be empty; a killed member is, once its session is over."""

        def forgotten() -> bool:
            try:
                self._admin.delete_consumer_groups([self._group])[self._group].result(ANSWER_SECONDS)
            except Exception as error:
                if "NON_EMPTY" in str(error):
                    return False
                raise
            return True

        wait_until(forgotten, ANSWER_SECONDS, "the group to be empty")

    def move_offset(self, topic: str, offset: int) -> None:
        """Set partition 0's committed offset, as `kafka-consumer-groups --reset-offsets` does."""
        consumer = Consumer(
            {"bootstrap.servers": self._address, "group.id": self._group, "enable.auto.commit": False}
        )
        with closing(consumer):

            def moved() -> bool:
                try:
                    consumer.commit(offsets=[TopicPartition(topic, 0, offset)], asynchronous=False)
                except Exception as error:
                    if "UNKNOWN_MEMBER_ID" in str(error):
                        return False  # a member is still there
                    raise
                return True

            wait_until(moved, ANSWER_SECONDS, "the group to be empty")

    # -- topics ----------------------------------------------------------------------------------------

    def add_partitions(self, topic: str, count: int) -> None:
        """Grow to `count` partitions."""
        self._admin.create_partitions([NewPartitions(topic, count)])[topic].result(ANSWER_SECONDS)
        wait_until(lambda: len(self._partitions(topic)) == count, ANSWER_SECONDS)

    def delete_topic(self, topic: str) -> None:
        """Delete it."""
        self._admin.delete_topics([topic])[topic].result(ANSWER_SECONDS)
        wait_until(
            lambda: topic not in self._admin.list_topics(timeout=ANSWER_SECONDS).topics, ANSWER_SECONDS
        )

    def delete_below(self, topic: str, offset: int) -> None:
        """Delete partition 0's records below an offset, as retention does."""
        place = TopicPartition(topic, 0, offset)
        for future in self._admin.delete_records([place]).values():
            future.result(ANSWER_SECONDS)

    def delete_up_to_end(self, topic: str, *, is_compacted: bool) -> None:
        """Delete all of partition 0; Kafka refuses that on a compacted topic until its policy is changed."""
        if is_compacted:
            self._configure(topic, {"cleanup.policy": "delete"})
        self.delete_below(topic, -1)
        if is_compacted:
            self._configure(topic, {"cleanup.policy": "compact"})

    def refuse_larger_than(self, topic: str, size: int) -> None:
        """Set max.message.bytes."""
        self._configure(topic, {"max.message.bytes": str(size)})

    def compact_eagerly(self, topic: str) -> None:
        """Let the cleaner pass over all but the newest records at once."""
        self._configure(
            topic,
            {
                "segment.ms": "200",
                "min.cleanable.dirty.ratio": "0.01",
                "max.compaction.lag.ms": "200",
                "min.compaction.lag.ms": "0",
                "delete.retention.ms": "0",
            },
        )

    def _configure(self, topic: str, configs: Mapping[str, str]) -> None:
        entries = [
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
            for name, value in configs.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
        for future in self._admin.incremental_alter_configs([resource]).values():
            future.result(ANSWER_SECONDS)

    def _partitions(self, topic: str) -> list[int]:
        return list(self._admin.list_topics(topic, timeout=ANSWER_SECONDS).topics[topic].partitions)

    # -- records ---------------------------------------------------------------------------------------

    def count(self, topic: str, key: bytes) -> int:
        """How many records of that key lie on partition 0, committed or not."""
        consumer = Consumer(
            {
                "bootstrap.servers": self._address,
                "group.id": f"count-{uuid.uuid4().hex}",
                "isolation.level": "read_uncommitted",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
            }
        )
        found = 0
        with closing(consumer):
            consumer.assign([TopicPartition(topic, 0, 0)])
            while (message := consumer.poll(ANSWER_SECONDS)) is not None and message.error() is None:
                found += message.key() == key
        return found

    @contextmanager
    def foreign_transaction(self, topic: str, timeout_ms: int = 30_000) -> Iterator[Foreign]:
        """A stranger's transaction with one record on the topic, left open unless the block aborts it."""
        producer = Producer(
            {
                "bootstrap.servers": self._address,
                "transactional.id": f"stranger-{uuid.uuid4().hex}",
                "transaction.timeout.ms": timeout_ms,
                "message.timeout.ms": timeout_ms,
            }
        )
        producer.init_transactions(ANSWER_SECONDS)
        producer.begin_transaction()
        producer.produce(topic, key=b"stranger", value=b"not ours", partition=0)
        producer.flush(ANSWER_SECONDS)
        yield Foreign(producer)

    def wait_until_nothing_is_hidden(self, topic: str) -> None:
        """Until the last stable offset is the end: no transaction is open on partition 0."""
        wait_until(
            lambda: (
                self._end(topic, IsolationLevel.READ_COMMITTED)
                == self._end(topic, IsolationLevel.READ_UNCOMMITTED)
            ),
            2 * ANSWER_SECONDS,
            "the hung transaction to be aborted",
        )

    def _end(self, topic: str, isolation: IsolationLevel) -> int:
        place = TopicPartition(topic, 0)
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # the library's own gap
        asked = self._admin.list_offsets({place: latest}, isolation_level=isolation)
        return int(asked[place].result(ANSWER_SECONDS).offset)
