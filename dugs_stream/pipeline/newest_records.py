"""Newest records of a topic, as a target that moves begins with them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from dugs_stream.log.port import LogReader, Stop
from dugs_stream.pipeline.target_arrivals import share_of
from dugs_stream.records import Record


@dataclass(frozen=True, slots=True)
class NewestRecords:
    """What was found, and where to go on.

    records       those of each partition in order, one partition after the other
    next_offsets  by partition, the offset after all that was there
    topic_id      of the topic that they were found on, as the reader gives it
    """

    records: tuple[Record, ...]
    next_offsets: Mapping[int, int]
    topic_id: str


def newest_records(reader: LogReader, topic: str, most: int, stop: Stop = lambda: False) -> NewestRecords:
    """The newest records of a topic, as many of each partition, at most so many together.

    Offsets are not records: markers and records that compaction or an abort removed have some too. So it looks further
    back until it has enough, or has seen all. Raises as `LogReader.read` does.
    """
    # Before the rest: if the topic is made anew meanwhile, the id is the old one's, and the next look finds another.
    topic_id = reader.topic_id(topic)
    beginnings, ends = reader.bounds(topic)
    share = share_of(most, len(ends))
    reach = share + share // 8
    while True:
        starts = {
            partition: max(beginnings.get(partition, 0), end - reach) for partition, end in ends.items()
        }
        found: dict[int, deque[Record]] = {partition: deque(maxlen=share) for partition in ends}
        if any(starts[partition] < end for partition, end in ends.items()):
            for record in reader.read(topic, follow=False, stop=stop, start=starts):
                if record.offset < ends.get(record.partition, 0):
                    found[record.partition].append(record)
        is_enough = all(
            len(found[partition]) == share or starts[partition] <= beginnings.get(partition, 0)
            for partition in ends
        )
        if is_enough or stop():
            records = tuple(record for partition in sorted(found) for record in found[partition])
            return NewestRecords(records, ends, topic_id)
        reach *= 4
