"""Offsets on a cluster: bounds of partitions, what an open transaction hides, and what a group has committed.

Asked from outside: no group is joined, and no position of another client moves.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kafka import TopicPartition

from dugs_stream.errors import LogUnavailableError
from dugs_stream.log.kafka.client import consumer_of
from dugs_stream.log.kafka.deadlines import DEADLINES, ms
from dugs_stream.log.kafka.errors import translating
from dugs_stream.log.kafka.settings import KafkaSettings

# A commit returns some milliseconds before its markers are written; two seconds are for a broker under load.
_SETTLING_SECONDS = 2.0
_RETRY_SECONDS = 0.02
_REQUEST_MS = ms(DEADLINES.request_seconds)


def bounds(consumer: Any, topic: str, partitions: Sequence[int]) -> tuple[dict[int, int], dict[int, int]]:
    """First offset still there and next offset to be read, per partition.

    The end is the last stable offset: it counts the markers of transactions and stops before an open one.
    """
    asked = [TopicPartition(topic, partition) for partition in partitions]
    with translating(f"asking for the bounds of {topic}"):
        beginnings = consumer.beginning_offsets(asked, timeout_ms=_REQUEST_MS)
        ends = consumer.end_offsets(asked, timeout_ms=_REQUEST_MS)
    return _by_number(beginnings), _by_number(ends)


@dataclass(frozen=True, slots=True)
class Hidden:
    """What an open transaction hides from readers of committed records: offsets from `stable` to `written`."""

    partition: TopicPartition
    stable: int
    written: int


def hidden(committed: Any, uncommitted: Any, partitions: Sequence[TopicPartition]) -> Hidden | None:
    """The first partition on which an open transaction hides something.

    committed, uncommitted  consumers with isolation level read_committed and read_uncommitted
    """
    with translating("asking for the ends of the output topics"):
        stable = committed.end_offsets(partitions, timeout_ms=_REQUEST_MS)
        written = uncommitted.end_offsets(partitions, timeout_ms=_REQUEST_MS)
    found = (Hidden(each, stable[each], written[each]) for each in partitions)
    return next((each for each in found if each.stable < each.written), None)


def require_settled(committed: Any, uncommitted: Any, partitions: Sequence[TopicPartition]) -> None:
    """Raise LogUnavailableError while an open transaction hides committed records behind it.

    Asked after fencing, so it is another program's: its transaction keeps the last stable offset back, and
    what earlier owners committed beyond it cannot be seen yet. Going on without it would lose it.
    """
    ends_at = time.monotonic() + _SETTLING_SECONDS
    while (found := hidden(committed, uncommitted, partitions)) is not None:
        if time.monotonic() >= ends_at:
            raise LogUnavailableError(
                f"An open transaction of another producer hides {found.partition.topic}/{found.partition.partition} "
                f"from position {found.stable} to {found.written}. It ends by its own timeout, so trying again is "
                "right. Find out who writes to this topic (kafka-transactions.sh find-hanging): only this deployment "
                "should."
            )
        time.sleep(_RETRY_SECONDS)


def committed_offsets(
    settings: KafkaSettings, group: str, topic: str, partitions: Sequence[int]
) -> dict[int, int]:
    """The group's offset of every partition that has one. A consumer that subscribes to nothing joins nothing."""
    doing = f"asking for the committed offsets of group {group!r}"
    with consumer_of(settings, group) as consumer, translating(doing):
        return committed_by(consumer, topic, partitions)


def committed_by(consumer: Any, topic: str, partitions: Sequence[int]) -> dict[int, int]:
    """The offsets that the consumer's group has committed; partitions without one are left out."""
    offsets: dict[int, int] = {}
    for partition in partitions:
        offset = consumer.committed(TopicPartition(topic, partition), timeout_ms=_REQUEST_MS)
        if offset is not None and offset >= 0:
            offsets[partition] = int(offset)
    return offsets


def _by_number(offsets: Mapping[TopicPartition, int]) -> dict[int, int]:
    return {each.partition: int(offset) for each, offset in offsets.items()}
