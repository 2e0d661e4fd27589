"""A micro-batch that is being polled: gathered over one poll or several, until it is full or its wait is over."""

from __future__ import annotations

from time import monotonic

from dugs_stream.log.port import BatchLimits, Polled
from dugs_stream.records import Record


class Gathering:
    """What is polled of one micro-batch so far. All of it under one membership: what ends that drops the gathering too.

    limits   of the whole micro-batch; the wait counts from its first record on
    """

    def __init__(self, limits: BatchLimits) -> None:
        self.limits = limits
        self.parts: list[Polled] = []
        self._records = self._bytes = 0
        self._is_full = False
        self._began_at = 0.0

    @property
    def is_over(self) -> bool:
        """Whether it holds records and no more are waited for."""
        return bool(self.parts) and (self._is_full or self._remaining_ms() == 0)

    def rest(self, *, may_wait: bool) -> BatchLimits:
        """What the next poll may take; one that may wait and finds nothing returns as soon as the first record comes."""
        is_begun = bool(self.parts)
        wait_ms = self._remaining_ms() if is_begun else self.limits.wait_ms
        return BatchLimits(
            self.limits.records - self._records,
            wait_ms if may_wait else 0,
            self.limits.bytes - self._bytes,
            is_rest=is_begun,
            ends_idling=may_wait and not is_begun,
        )

    def add(self, polled: Polled) -> None:
        """Take in what was polled."""
        self._is_full = polled.is_full
        if polled.is_empty:
            return
        if not self.parts:
            self._began_at = monotonic()
        self.parts.append(polled)
        self._records += len(polled.records)
        if not polled.is_full:  # nothing is polled after one that is, so nobody asks
            self._bytes += sum(map(_size, polled.records))

    def polled(self) -> Polled:
        """The micro-batch: its records in deciding order, under the membership of the first poll."""
        if len(self.parts) == 1:
            return self.parts[0]
        records = [record for part in self.parts for record in part.records]
        records.sort(key=lambda record: (record.partition, record.offset))
        next_offsets = {record.partition: record.offset + 1 for record in records}
        return Polled(tuple(records), next_offsets, self.parts[0].membership, self._is_full)

    def _remaining_ms(self) -> int:
        return max(0, self.limits.wait_ms - int(1000 * (monotonic() - self._began_at)))


def _size(record: Record) -> int:
    """Bytes that a record counts for: value, key and headers."""
    headers = sum(len(name) + len(value or b"") for name, value in record.headers)
    return len(record.value or b"") + len(record.key or b"") + headers
