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
from dugs_stream.log.kafka.topics import existing_topics
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
        """Without `follow` partition after partition; with it, as records come."""
        (found,) = existing_topics(self._settings, topic)
        with consumer_of(self._settings, None) as consumer:
            self._consumers.append(consumer)
            try:
                beginnings, ends = bounds(consumer, topic, found.partitions)
                first = {each: max(offset, (start or {}).get(each, 0)) for each, offset in beginnings.items()}
                if follow:
                    yield from _follow(consumer, topic, first, stop)
                    return
                for partition, offset in first.items():
                    for record in committed_records(consumer, topic, partition, offset, ends[partition]):
                        if stop():
                            return
                        yield record_of(record)
            finally:
                self._consumers.remove(consumer)

    def bounds(self, topic: str) -> tuple[Mapping[int, int], Mapping[int, int]]:
        (found,) = existing_topics(self._settings, topic)
        with consumer_of(self._settings, None) as consumer:
            return bounds(consumer, found.name, found.partitions)

    def topic_id(self, topic: str) -> str:
        return existing_topics(self._settings, topic)[0].topic_id

    def close(self) -> None:
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


def _follow(consumer: Any, topic: str, start: Mapping[int, int], stop: Stop) -> Iterator[Record]:
    with translating(f"following {topic}"):
        consumer.assign([TopicPartition(topic, partition) for partition in start])
        for partition, offset in start.items():
            consumer.seek(TopicPartition(topic, partition), offset)
        while not stop():
            for records in consumer.poll(timeout_ms=_FOLLOW_MS).values():
                for record in records:
                    yield record_of(record)
                    if stop():
                        return
