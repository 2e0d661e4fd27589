"""Reading committed records of Kafka topics without a group and without side effects."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from kafka import TopicPartition

from dugs_stream.errors import LogUnavailableError
from dugs_stream.log.kafka.client import consumer_of
from dugs_stream.log.kafka.deadlines import DEADLINES, ms
from dugs_stream.log.kafka.errors import translating
from dugs_stream.log.kafka.messages import record_of
from dugs_stream.log.kafka.offsets import bounds
from dugs_stream.log.kafka.settings import KafkaSettings
from dugs_stream.log.kafka.topics import TopicFacts, existing_topics
from dugs_stream.log.port import Stop
from dugs_stream.records import Record

# `stop` is asked between polls of this length.
_FOLLOW_MS = 200
# The wait for data in one poll: short enough that `position` is looked at soon after the last marker.
_POLL_MS = 100
# Rows of a changelog are some 10 KB: 5 MB at a time.
_RECORDS_A_POLL = 500
# No progress for this long means that no broker answers: three requests' worth. A long changelog has no deadline of
# its own, only each step of it has.
_NO_PROGRESS_SECONDS = 3 * DEADLINES.request_seconds


class KafkaReader:
    """port.LogReader on Kafka. Each `read` has a connection of its own."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._consumers: list[Any] = []

    def read(
        self, topic: str, *, follow: bool, stop: Stop, start: Mapping[int, int] | None = None
    ) -> Iterator[Record]:
        """See port.LogReader. Without `follow` partition after partition; with it, as records come."""
        (found,) = existing_topics(self._settings, topic)
        read = _follow if follow else _read_to_the_end
        with consumer_of(self._settings, None) as consumer:
            self._consumers.append(consumer)
            try:
                yield from read(consumer, found, stop, start or {})
            finally:
                self._consumers.remove(consumer)

    def bounds(self, topic: str) -> tuple[Mapping[int, int], Mapping[int, int]]:
        """See port.LogReader."""
        (found,) = existing_topics(self._settings, topic)
        with consumer_of(self._settings, None) as consumer:
            return bounds(consumer, found.name, found.partitions)

    def close(self) -> None:
        """See port.LogReader."""
        for consumer in list(self._consumers):
            consumer.close(autocommit=False)


def committed_records(consumer: Any, topic: str, partition: int, start: int, end: int) -> Iterator[Any]:
    """kafka-python's records from `start` to `end` (exclusive), aborted ones and markers passed over.

    The trap: the last record's offset does not tell the end, since the end counts markers and aborted records
    that a reader never sees; only `position()` passes them, also if poll returns nothing (kafka-python 3.0.12).
    So the loop goes on until position ≥ end. Raises LogUnavailableError if the position stands still too long.
    """
    if start >= end:
        return
    assigned = TopicPartition(topic, partition)
    with translating(f"reading {topic}/{partition} from {start}"):
        consumer.assign([assigned])
        consumer.seek(assigned, start)
        position, moved_at = start, time.monotonic()
        while position < end:
            for record in consumer.poll(timeout_ms=_POLL_MS, max_records=_RECORDS_A_POLL).get(assigned, ()):
                if record.offset < end:
                    yield record
            reached = consumer.position(assigned, timeout_ms=ms(DEADLINES.request_seconds))
            if reached is not None and reached > position:
                position, moved_at = reached, time.monotonic()
            elif time.monotonic() - moved_at > _NO_PROGRESS_SECONDS:
                raise LogUnavailableError(
                    f"Reading {topic}/{partition} has not moved from {position} for {_NO_PROGRESS_SECONDS:g} s, before "
                    f"its end {end}. Check the brokers and the READ permission; trying again is right."
                )


def _read_to_the_end(
    consumer: Any, topic: TopicFacts, stop: Stop, start: Mapping[int, int]
) -> Iterator[Record]:
    beginnings, ends = bounds(consumer, topic.name, topic.partitions)
    for partition in topic.partitions:
        first = max(beginnings[partition], start.get(partition, 0))
        for record in committed_records(consumer, topic.name, partition, first, ends[partition]):
            if stop():
                return
            yield record_of(record)


def _follow(consumer: Any, topic: TopicFacts, stop: Stop, start: Mapping[int, int]) -> Iterator[Record]:
    beginnings, _ends = bounds(consumer, topic.name, topic.partitions)
    with translating(f"following {topic.name}"):
        consumer.assign([TopicPartition(topic.name, partition) for partition in topic.partitions])
        for partition, offset in beginnings.items():
            consumer.seek(TopicPartition(topic.name, partition), max(offset, start.get(partition, 0)))
        while not stop():
            for records in consumer.poll(timeout_ms=_FOLLOW_MS).values():
                for record in records:
                    yield record_of(record)
                    if stop():
                        return
