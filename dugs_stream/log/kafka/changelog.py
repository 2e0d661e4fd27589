"""Every committed record of a range of one partition, and the bounds of partitions: reading without a group.

Nothing here moves a position that anybody else sees.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kafka import TopicPartition

from dugs_stream.errors import LogUnavailableError
from dugs_stream.log.kafka.client import REQUEST_SECONDS, open_consumer
from dugs_stream.log.kafka.errors import translating

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from dugs_stream.log.settings import KafkaSettings

# No progress for this long means nobody answers: three requests' worth. A long changelog has no deadline of
# its own, only each step of it has.
NO_PROGRESS_SECONDS = 3 * REQUEST_SECONDS
# A commit returns some milliseconds before its markers are written; two seconds are for a broker under load.
SETTLING_SECONDS = 2.0
_LOOK_AGAIN_SECONDS = 0.02
# The wait for data in one poll: short enough that `position` is looked at soon after the last marker.
_POLL_MS = 100
# Rows of a changelog are some 10 KB: 5 MB at a time.
_RECORDS_A_POLL = 500


def open_reading_consumer(settings: KafkaSettings, **own: Any) -> Any:
    """A consumer for `bounds` and `committed_records`: of no group, so that it can disturb none."""
    return open_consumer(settings, group_id=None, **own)


def bounds(consumer: Any, topic: str, partitions: Sequence[int]) -> tuple[dict[int, int], dict[int, int]]:
    """First offset still there and next offset to be read, per partition.

    The end is the last stable offset: it counts the markers of transactions and stops before an open one.
    """
    wanted = [TopicPartition(topic, partition) for partition in partitions]
    deadline_ms = int(REQUEST_SECONDS * 1000)
    with translating(f"asking for the bounds of {topic}"):
        beginnings = consumer.beginning_offsets(wanted, timeout_ms=deadline_ms)
        ends = consumer.end_offsets(wanted, timeout_ms=deadline_ms)
    return _by_number(beginnings), _by_number(ends)


@dataclass(frozen=True, slots=True)
class Hidden:
    """What an open transaction keeps from readers of committed records: offsets from `stable` to `written`."""

    place: TopicPartition
    stable: int
    written: int


def hidden(patient: Any, hasty: Any, places: Sequence[TopicPartition]) -> Hidden | None:
    """The first place where an open transaction hides something; `patient` reads committed records, `hasty` all."""
    deadline_ms = int(REQUEST_SECONDS * 1000)
    with translating("asking for the ends of the output topics"):
        stable = patient.end_offsets(places, timeout_ms=deadline_ms)
        written = hasty.end_offsets(places, timeout_ms=deadline_ms)
    found = (Hidden(place, stable[place], written[place]) for place in places)
    return next((each for each in found if each.stable < each.written), None)


def require_settled(patient: Any, hasty: Any, places: Sequence[TopicPartition]) -> None:
    """Raise LogUnavailableError while an open transaction hides committed records behind it.

    Asked behind the fence, so it is another program's: its transaction keeps the last stable offset back, and
    whatever our predecessors committed beyond it cannot be seen yet. Going on without it would lose it.
    """
    ends_at = time.monotonic() + SETTLING_SECONDS
    while (found := hidden(patient, hasty, places)) is not None:
        if time.monotonic() >= ends_at:
            raise LogUnavailableError(
                f"An open transaction of another producer hides {found.place.topic}/{found.place.partition} from "
                f"position {found.stable} to {found.written}. It ends by its own timeout, and trying again is right; "
                "find out who writes to this topic (kafka-transactions.sh find-hanging), nobody but this deployment "
                "should."
            )
        time.sleep(_LOOK_AGAIN_SECONDS)


def committed_records(consumer: Any, topic: str, partition: int, start: int, end: int) -> Iterator[Any]:
    """kafka-python's records from `start` to `end` (exclusive), aborted ones and markers passed over.

    The trap: the last record's offset says nothing of the end, since the end counts markers and aborted
    records that a reader never sees; only `position()` passes them, also when poll returns nothing. So the
    loop goes on until position ≥ end. Raises LogUnavailableError when the position stands still too long.
    """
    if start >= end:
        return
    place = TopicPartition(topic, partition)
    with translating(f"reading {topic}/{partition} from {start}"):
        consumer.assign([place])
        consumer.seek(place, start)
        position, moved_at = start, time.monotonic()
        while position < end:
            for record in consumer.poll(timeout_ms=_POLL_MS, max_records=_RECORDS_A_POLL).get(place, ()):
                if record.offset < end:
                    yield record
            reached = consumer.position(place, timeout_ms=int(REQUEST_SECONDS * 1000))
            if reached is not None and reached > position:
                position, moved_at = reached, time.monotonic()
            elif time.monotonic() - moved_at > NO_PROGRESS_SECONDS:
                raise LogUnavailableError(
                    f"Reading {topic}/{partition} stands at {position} for {NO_PROGRESS_SECONDS} s, before its end "
                    f"{end}. Check the brokers and the READ permission; trying again is right."
                )


def _by_number(offsets: Mapping[Any, int]) -> dict[int, int]:
    return {place.partition: int(offset) for place, offset in offsets.items()}
