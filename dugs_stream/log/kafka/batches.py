"""Record batches of one transaction, built from its messages and handed to kafka-python's producer whole.

kafka-python's `send` (3.0.12) makes a future, takes several locks and estimates a size for every message, and sends
the first message of each partition alone. Here a message costs its encoding; each partition's batches leave together in
one request, and a batch, which the broker confirms or refuses as a whole, has one future.

Uses private names of kafka-python, as log.kafka.compat does.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from kafka import TopicPartition
from kafka.errors import IllegalStateError, KafkaError, KafkaTimeoutError, MessageSizeTooLargeError
from kafka.producer.producer_batch import ProducerBatch
from kafka.record.memory_records import MemoryRecordsBuilder

from dugs_stream.log.kafka.messages import wire_form
from dugs_stream.records import Message

# The format of brokers since 0.11, the first that knows transactions.
_MESSAGE_FORMAT = 2


class Batches:
    """Add every message, `send` once, then `await_all`."""

    def __init__(self, producer: Any) -> None:
        self._producer = producer
        self._by_partition: dict[TopicPartition, list[Any]] = {}
        self._single: dict[str, TopicPartition | None] = {}
        self.messages = 0

    def add(self, topic: str, message: Message, partition: int | None = None) -> None:
        """Without a partition, kafka-python's partitioner picks one, by the key if there is one.

        Raises KafkaTimeoutError for a topic that is not there, MessageSizeTooLargeError.
        """
        key, value, headers = wire_form(message)
        place = self._place(topic, key, value, partition)
        batches = self._by_partition.get(place)
        self.messages += 1
        if batches is not None:
            last = batches[-1]
            if last.records.append(message.timestamp_ms, key, value, headers) is not None:
                return
        self._begin(place).records.append(message.timestamp_ms, key, value, headers)
        # Only the first record of a batch can be larger than the batch was to be.
        if (size := self._by_partition[place][-1].records.size_in_bytes()) > self._largest:
            raise MessageSizeTooLargeError(
                f"a message for {topic} makes {size} bytes, and a request may have {self._largest}"
            )

    def send(self) -> None:
        """Queue them all at once; the producer's own thread sends them. A transaction must have begun, if there are any."""
        accumulator, manager = self._producer._accumulator, self._producer._transaction_manager  # noqa: SLF001
        if accumulator._closed:  # noqa: SLF001
            raise IllegalStateError("the producer is closed")
        for place, batches in self._by_partition.items():
            if manager.is_transactional():
                manager.maybe_add_partition_to_transaction(place)
            with accumulator._tp_lock(place):  # noqa: SLF001
                for batch in batches:
                    accumulator._incomplete.add(batch)  # noqa: SLF001
                accumulator._batches[place].extend(batches)  # noqa: SLF001
        if self._by_partition:
            self._producer._sender.wakeup()  # noqa: SLF001

    def await_all(self, seconds: float) -> dict[TopicPartition, int]:
        """The offset of the last message on each partition, once every single batch is confirmed. Raises KafkaError."""
        ends_at = time.monotonic() + seconds
        last_offsets: dict[TopicPartition, int] = {}
        for place, batch in self._all():
            if not batch.produce_future.wait(max(0.0, ends_at - time.monotonic())):
                raise KafkaTimeoutError(f"{place.topic} was not confirmed within {seconds:g} s")
            base_offset, _timestamp, error_of = batch.produce_future.value
            if error_of is not None:
                raise error_of(0)
            if base_offset < 0:  # kafka-python's word for "the broker had it already, and does not say where"
                raise KafkaError(f"the broker did not tell where messages for {place.topic} lie")
            last_offsets[place] = base_offset + batch.record_count - 1
        return last_offsets

    def _all(self) -> Iterator[tuple[TopicPartition, Any]]:
        for place, batches in self._by_partition.items():
            for batch in batches:
                yield place, batch

    @property
    def _largest(self) -> int:
        return int(self._producer.config["max_request_size"])

    def _begin(self, place: TopicPartition) -> Any:
        config = self._producer.config
        records = MemoryRecordsBuilder(_MESSAGE_FORMAT, config["compression_attrs"], config["batch_size"])
        batch = ProducerBatch(place, records)
        self._by_partition.setdefault(place, []).append(batch)
        return batch

    def _place(
        self, topic: str, key: bytes | None, value: bytes | None, partition: int | None
    ) -> TopicPartition:
        if topic not in self._single:
            known = self._producer.partitions_for(topic)
            self._single[topic] = TopicPartition(topic, *known) if len(known) == 1 else None
        single = self._single[topic]
        if single is not None:
            return single
        if partition is None:
            partition = self._producer._partition(topic, None, key, value, key, value)  # noqa: SLF001
        return TopicPartition(topic, partition)
