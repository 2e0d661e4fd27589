"""Records that kafka-python cannot parse: handed out with what is wrong, so that they are rejected and not in the way.

kafka-python (3.0.12) raises at such a record at every poll, and so after every restart. Here the record carries its
fault instead, with as many of its bytes as can be told apart:

- a header's name that is not UTF-8: the name is escaped, everything else is whole;
- a batch with a wrong checksum whose records can be told apart all the same: each as it is now;
- a batch whose records cannot be told apart: one record in the place of the last, its value the batch as it is stored.

Uses private names of kafka-python, as log.kafka.compat does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError, UnsupportedCodecError
from kafka.record.default_records import DefaultRecord, DefaultRecordBatch
from kafka.record.util import decode_varint

# Varints of a record before those of its headers: length, attributes, time, offset, key, value, number of headers.
_BEFORE_HEADERS = 7
_NO_TIMESTAMP = -1
_WRONG_CHECKSUM = (
    "the checksum of its batch is wrong, so bytes have changed since it was sent (a damaged disk?)"
)


def hand_out_unreadable(consumer: Any) -> None:
    """Let a consumer of kafka-python hand out records that it cannot parse; `fault_of` tells them from others."""
    consumer._fetcher.PartitionRecords = _PartitionRecords  # noqa: SLF001


def fault_of(headers: Any) -> str | None:
    """What is wrong with a record of such a consumer, by its headers; None: nothing."""
    return headers.fault if isinstance(headers, _FaultyHeaders) else None


class _FaultyHeaders(list[tuple[str, bytes | None]]):
    """Headers of a faulty record. kafka-python passes them on as they are, so they can carry the fault."""

    def __init__(self, headers: list[tuple[str, bytes | None]], fault: str) -> None:
        super().__init__(headers)
        self.fault = fault


class _PartitionRecords(Fetcher.PartitionRecords):  # type: ignore[misc]  # kafka-python is untyped
    """One partition's part of a response."""

    def _unpack_records(self, tp: Any, records: Any, *deserializers: Any) -> Iterator[Any]:
        yield from super()._unpack_records(tp, _Batches(records, self.fetch_offset), *deserializers)


class _Batches:
    """The batches of a response up to the first with a wrong checksum, which is the last.

    Any of its fields may be wrong, also whether it is the marker that ends an aborted transaction. With its next answer
    the broker says anew what is aborted behind it, so no record is taken for aborted by mistake.
    """

    def __init__(self, records: Any, fetch_offset: int) -> None:
        self._batches = iter(records.next_batch, None)
        self._following = next(self._batches, None)
        self._fetch_offset = fetch_offset

    def next_batch(self) -> Any:
        while (batch := self._following) is not None:
            self._following = next(self._batches, None)
            if not isinstance(batch, DefaultRecordBatch):
                return batch  # the format of brokers before 0.11
            if batch.validate_crc():
                return _Batch(batch._buffer)  # noqa: SLF001
            end = None if self._following is None else int(self._following.base_offset)
            # A broker goes by the stated last offset: if that is wrong, it sends the batch again with those behind it.
            if end is None or self._fetch_offset < end:
                self._following = None
                return _DamagedBatch(batch._buffer, self._fetch_offset, end)  # noqa: SLF001
        return None


class _Batch(DefaultRecordBatch):  # type: ignore[misc]  # kafka-python is untyped
    """A batch that yields something for each of its records."""

    __slots__ = ("_stored",)

    def __init__(self, stored: bytearray) -> None:
        super().__init__(stored)
        self._stored = stored

    def validate_crc(self) -> bool:
        return True  # it was asked before

    def __iter__(self) -> Iterator[DefaultRecord]:
        following = self.base_offset
        try:
            self._maybe_uncompress()
            for _ in range(self.records_count):
                record = self._next_record()
                following = record.offset + 1
                yield record
        except UnsupportedCodecError:
            raise  # a library is missing here, and nothing is wrong with the records
        except Exception as error:  # noqa: BLE001 (decompressors raise errors of any class)
            yield self._as_one_record(following, str(error) or type(error).__name__)

    def _next_record(self) -> DefaultRecord:
        """Raises CorruptRecordError, ValueError or IndexError if it cannot be told where the record ends."""
        try:
            return self._read_msg()
        except UnicodeDecodeError:
            return self._with_escaped_names()

    def _with_escaped_names(self) -> DefaultRecord:
        """Read the record with the bytes of each such name replaced, which leaves all lengths as they are."""
        ends: list[int] = []
        odd: dict[int, bytes] = {}

        def noting(buffer: bytearray, at: int) -> tuple[int, int]:
            value, end = decode_varint(buffer, at)
            ends.append(end)
            return value, end

        while True:
            ends.clear()
            try:
                record = self._read_msg(noting)
                break
            except UnicodeDecodeError as error:
                name = bytes(error.object)
                odd[(len(ends) - _BEFORE_HEADERS) // 2] = name
                self._buffer[ends[-1] : ends[-1] + len(name)] = b"?" * len(name)
        headers = [
            (odd[number].decode(errors="backslashreplace") if number in odd else name, value)
            for number, (name, value) in enumerate(record.headers)
        ]
        names = ", ".join(map(repr, odd.values()))
        record._headers = _FaultyHeaders(headers, f"the name of a header is not UTF-8: {names}")  # noqa: SLF001
        return record

    def _as_one_record(self, first: int, why: str) -> DefaultRecord:
        """Everything from offset `first` on as one record, with the batch as it is stored."""
        fault = f"the records from offset {first} to {self.last_offset} cannot be told apart: {why}"
        stored, headers = bytes(self._stored), _FaultyHeaders([], fault)
        return DefaultRecord(len(stored), self.last_offset, _NO_TIMESTAMP, 0, None, stored, headers)


class _DamagedBatch(_Batch):
    """A batch with a wrong checksum, asked for from `fetch_offset`. `end`: the offset of the next one, if known."""

    __slots__ = ("_last_offset", "_records", "_why")

    def __init__(self, stored: bytearray, fetch_offset: int, end: int | None) -> None:
        super().__init__(stored)
        self._records: list[DefaultRecord] = []
        self._why = ""
        try:
            self._records = self._parse(end)
        except Exception as error:  # noqa: BLE001 (damage can raise anything)
            self._why = str(error) or type(error).__name__
        self._last_offset = max(self._find_last_offset(fetch_offset, end), fetch_offset - 1)

    def _parse(self, end: int | None) -> list[DefaultRecord]:
        self._maybe_uncompress()
        records = [self._next_record() for _ in range(self.records_count)]
        offsets = [int(record.offset) for record in records]
        if not offsets or offsets != sorted({*offsets}) or offsets[0] < self.base_offset:
            raise CorruptRecordError("their offsets make no sense")
        if end is not None and offsets[-1] >= end:
            raise CorruptRecordError("they overlap the next batch")
        return records

    def _find_last_offset(self, fetch_offset: int, end: int | None) -> int:
        """As stated if that makes sense, else as its records or the next batch tell. Raises CorruptRecordError."""
        stated = int(self.base_offset + self.last_offset_delta)
        if end is not None:
            return stated if fetch_offset <= stated < end else end - 1
        if self._records:
            return int(self._records[-1].offset)
        if self.last_offset_delta + 1 == self.records_count:
            return stated
        raise CorruptRecordError(
            f"The batch at offset {self.base_offset} is damaged ({self._why}), and where it ends is not known before "
            "another one is behind it: send a record to this partition"
        )

    @property
    def is_control_batch(self) -> bool:
        return False  # even if it was: better one letter too many than a record passed over in silence

    def has_producer_id(self) -> bool:
        return False

    @property
    def last_offset(self) -> int:
        return self._last_offset

    def __iter__(self) -> Iterator[DefaultRecord]:
        if not self._records:
            yield self._as_one_record(self.base_offset, f"{_WRONG_CHECKSUM}; {self._why}")
        for record in self._records:
            record._headers = _FaultyHeaders(record.headers, _WRONG_CHECKSUM)  # noqa: SLF001
            yield record
