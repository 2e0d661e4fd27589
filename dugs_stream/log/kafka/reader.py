"""Reads the committed records of a Kafka topic from its beginning, in no group and without side effects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kafka import TopicPartition

from dugs_stream.errors import ConfigurationError, Problem
from dugs_stream.log.kafka.changelog import bounds, committed_records, open_reading_consumer
from dugs_stream.log.kafka.errors import translating
from dugs_stream.log.kafka.messages import sample_of
from dugs_stream.log.kafka.topics import describe_topics

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dugs_stream.log.kafka.topics import TopicFacts
    from dugs_stream.log.port import Stop
    from dugs_stream.log.settings import KafkaSettings
    from dugs_stream.records import Record

# `stop` is asked between polls of this length.
_POLL_MS = 200


class KafkaReader:
    """port.LogReader on Kafka. Each `read` has a connection of its own."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._consumers: list[Any] = []

    def read(
        self, topic: str, *, follow: bool, stop: Stop, start: Mapping[int, int] | None = None
    ) -> Iterator[Record]:
        """See port.LogReader. Without `follow` partition after partition; with it, as records come."""
        found = self._find(topic)
        consumer = open_reading_consumer(self._settings)
        self._consumers.append(consumer)
        try:
            read = _follow if follow else _read_to_the_end
            yield from read(consumer, found, stop, start or {})
        finally:
            self._consumers.remove(consumer)
            consumer.close(autocommit=False)

    def bounds(self, topic: str) -> tuple[Mapping[int, int], Mapping[int, int]]:
        """See port.LogReader."""
        found = self._find(topic)
        consumer = open_reading_consumer(self._settings)
        try:
            return bounds(consumer, found.name, found.partitions)
        finally:
            consumer.close(autocommit=False)

    def _find(self, topic: str) -> TopicFacts:
        found = describe_topics(self._settings, [topic])
        if topic not in found:
            hint = "Look at the name; `dugs run` makes the topics it needs."
            raise ConfigurationError(
                [Problem("log.kafka", f"there is no topic {topic!r} on the cluster.", hint)]
            )
        return found[topic]

    def close(self) -> None:
        """See port.LogReader."""
        for consumer in list(self._consumers):
            consumer.close(autocommit=False)


def _read_to_the_end(
    consumer: Any, topic: TopicFacts, stop: Stop, start: Mapping[int, int]
) -> Iterator[Record]:
    beginnings, ends = bounds(consumer, topic.name, topic.partitions)
    for partition in topic.partitions:
        first = max(beginnings[partition], start.get(partition, 0))
        for record in committed_records(consumer, topic.name, partition, first, ends[partition]):
            if stop():
                return
            yield sample_of(record)


def _follow(consumer: Any, topic: TopicFacts, stop: Stop, start: Mapping[int, int]) -> Iterator[Record]:
    beginnings, _ends = bounds(consumer, topic.name, topic.partitions)
    with translating(f"following {topic.name}"):
        consumer.assign([TopicPartition(topic.name, partition) for partition in topic.partitions])
        for partition, offset in beginnings.items():
            consumer.seek(TopicPartition(topic.name, partition), max(offset, start.get(partition, 0)))
        while not stop():
            for records in consumer.poll(timeout_ms=_POLL_MS).values():
                for record in records:
                    yield sample_of(record)
                    if stop():
                        return
