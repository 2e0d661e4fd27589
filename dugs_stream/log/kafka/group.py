"""What has a group committed? Asked from outside, without becoming a member of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kafka import TopicPartition

from dugs_stream.log.kafka.client import REQUEST_SECONDS, open_consumer
from dugs_stream.log.kafka.errors import translating

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dugs_stream.log.settings import KafkaSettings


def committed_offsets(
    settings: KafkaSettings, group: str, topic: str, partitions: Sequence[int]
) -> dict[int, int]:
    """The group's offset of every partition that has one. A consumer that subscribes to nothing joins nothing."""
    consumer = open_consumer(settings, group_id=group)
    try:
        with translating(f"asking for the committed offsets of group {group!r}"):
            return committed_by(consumer, topic, partitions)
    finally:
        consumer.close(autocommit=False)


def committed_by(consumer: Any, topic: str, partitions: Sequence[int]) -> dict[int, int]:
    """The offsets that the consumer's group has committed, partitions without one left out."""
    offsets: dict[int, int] = {}
    for partition in partitions:
        place = TopicPartition(topic, partition)
        offset = consumer.committed(place, timeout_ms=int(REQUEST_SECONDS * 1000))
        if offset is not None and offset >= 0:
            offsets[partition] = int(offset)
    return offsets
