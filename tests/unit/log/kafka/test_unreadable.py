"""Damage to a stored batch: it raises nothing, and takes no whole record with it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import dropwhile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka import TopicPartition
from kafka.consumer.fetcher import IsolationLevel
from kafka.record import MemoryRecords
from kafka.record.default_records import DefaultRecordBatchBuilder

from dugs_stream.log.kafka.messages import record_of
from dugs_stream.log.kafka.unreadable import _PartitionRecords
from dugs_stream.records import Record

PLACE = TopicPartition("samples", 0)
NONE, GZIP = 0, 1
# Base offset, length, leader epoch and magic lie before the checksum and outside it; the broker itself needs them.
UNCHECKED_BYTES = 17


def batch(first: int, values: Sequence[bytes], compression: int) -> bytearray:
    """A batch as a broker stores it."""
    builder = DefaultRecordBatchBuilder(
        magic=2, compression_type=compression, is_transactional=0,
        producer_id=-1, producer_epoch=-1, base_sequence=-1, batch_size=1 << 20,
    )  # fmt: skip
    for number, value in enumerate(values):
        assert builder.append(number, timestamp=1, key=b"k", value=value, headers=[("label", b"7")])
    stored = bytearray(builder.build())
    stored[:8] = first.to_bytes(8, "big")
    return stored


def polled(batches: Sequence[bytes]) -> list[Record]:
    """Everything, as a consumer reads it that asks again from where it came to."""
    found: list[Record] = []
    at, before = 0, -1
    while before < at:
        before = at
        # A broker answers with everything from the first batch on that, as it states itself, reaches to the offset.
        rest = dropwhile(lambda each, at=at: MemoryRecords(each).next_batch().last_offset < at, batches)
        response: Any = _PartitionRecords(
            at, PLACE, MemoryRecords(b"".join(rest)), isolation_level=IsolationLevel.READ_COMMITTED
        )
        while response:
            found += [record_of(each) for each in response.take(100)]
        at = response.next_fetch_offset
    return found


@pytest.mark.parametrize("compression", [NONE, GZIP])
@given(st.lists(st.binary(max_size=30), min_size=1, max_size=5), st.data(), st.integers(1, 255))
@settings(max_examples=500)
def test_one_changed_byte_hides_no_whole_record(
    compression: int, values: list[bytes], data: st.DataObject, flip: int
) -> None:
    """Records before and behind come as they were; in the damaged batch nothing passes for whole."""
    damaged = batch(1, values, compression)
    damaged[data.draw(st.integers(UNCHECKED_BYTES, len(damaged) - 1))] ^= flip
    behind = 1 + len(values)

    records = polled([batch(0, [b"before"], NONE), damaged, batch(behind, [b"after"], NONE)])

    whole = [(each.offset, each.value) for each in records if each.fault is None]
    faulty = [each.offset for each in records if each.fault is not None]
    assert whole == [(0, b"before"), (behind, b"after")]
    assert faulty
    assert all(0 < offset < behind for offset in faulty)


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=5), st.sampled_from([NONE, GZIP]))
def test_whole_batch_is_read_as_before(values: list[bytes], compression: int) -> None:
    """Without damage every record is there, with its headers and no fault."""
    records = polled([batch(0, values, compression)])

    assert [(each.offset, each.value, each.fault) for each in records] == [
        (number, value, None) for number, value in enumerate(values)
    ]
    assert {each.headers for each in records} == {(("label", b"7"),)}
