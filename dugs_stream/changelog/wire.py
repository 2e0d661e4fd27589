"""Changelog messages: the row of an accepted unique, and the trailer that ends every transaction.

A row's key is its sequence number, zero-padded so that text order is number order and compaction keeps every row;
its value is the vector as little-endian float32, its header `dugs_event` the event. The trailer has one constant
key, so that compaction keeps the last.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict
from typing import Any, NoReturn

import numpy as np
from pydantic import TypeAdapter, ValidationError

from dugs_stream.canonical_json import canonical_json
from dugs_stream.errors import ChangelogError
from dugs_stream.records import ChangelogRow, Message, Record, SequenceNumber, Trailer

EVENT_HEADER = "dugs_event"

_TRAILER_KEY = b"trailer"
_ROW_KEY = re.compile(rb"unique/(\d{20})")
_VECTOR = np.dtype("<f4")
_TRAILER = TypeAdapter(Trailer)
_CHECKSUM = re.compile(r"[0-9a-f]{64}")


def row_message(row: ChangelogRow) -> Message:
    """The accepted unique as a message. Raises ValueError for an event with NaN or infinity."""
    return Message(
        key=b"unique/%020d" % row.sequence,
        value=np.ascontiguousarray(row.vector, dtype=_VECTOR).tobytes(),
        headers=((EVENT_HEADER, canonical_json(row.event)),),
    )


def trailer_message(trailer: Trailer) -> Message:
    """The trailer as a message; partitions are keys of JSON objects, so they are written as text."""
    facts: dict[str, Any] = asdict(trailer)
    for name in ("next_offsets", "batch_ranges"):
        facts[name] = {str(partition): entry for partition, entry in facts[name].items()}
    for name in ("code", "value_target"):
        if not facts[name]:
            del facts[name]  # the form of earlier versions, which have no such key
    return Message(key=_TRAILER_KEY, value=canonical_json(facts))


def decode_changelog(message: Message | Record) -> ChangelogRow | Trailer:
    """The row or trailer that a changelog message holds; a row's vector is read-only, (k,) float32.

    Raises ChangelogError, naming what is malformed.
    """
    if message.key == _TRAILER_KEY:
        return _trailer(message.value)
    found = _ROW_KEY.fullmatch(message.key or b"")
    if found is None:
        _refuse(
            f"a message has the key {message.key!r}; expected {_TRAILER_KEY!r} or b'unique/' and 20 digits"
        )
    return _row(SequenceNumber(int(found[1])), message)


def _row(sequence: SequenceNumber, message: Message | Record) -> ChangelogRow:
    where = f"the row of unique {sequence}"
    events = [value for name, value in message.headers if name == EVENT_HEADER]
    if len(events) != 1:
        _refuse(f"{where} has {len(events)} headers {EVENT_HEADER!r}; expected one")
    event = _json_object(events[0], f"the event of {where}")
    if event.get("sequence") != sequence:
        _refuse(f"{where} holds the event of sequence {event.get('sequence')!r}")
    value = message.value
    if not value or len(value) % _VECTOR.itemsize:
        _refuse(f"{where} has {len(value or b'')} bytes; expected a vector of float32, 4 bytes a dimension")
    vector = np.frombuffer(value, dtype=_VECTOR).astype(np.float32, copy=False)
    if not np.isfinite(vector).all():
        _refuse(f"the vector of {where} is not finite")
    return ChangelogRow(sequence, event, vector)


def _trailer(value: bytes | None) -> Trailer:
    _json_object(value, "a trailer")  # refuses NaN too, which the parser below accepts
    try:
        trailer = _TRAILER.validate_json(value or b"", strict=True)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors(include_url=False)
        )
        _refuse(f"a trailer is malformed ({problems})", error)
    counts = [trailer.uniques, *trailer.next_offsets, *trailer.next_offsets.values()]
    if min(counts) < 0 or not _CHECKSUM.fullmatch(trailer.checksum):
        _refuse(f"a trailer has a negative count or offset, or no SHA-256 as its checksum: {trailer}")
    return trailer


def _json_object(encoded: bytes | None, what: str) -> dict[str, Any]:
    try:
        decoded = json.loads(encoded or b"", parse_constant=_finite, parse_float=_finite)
    except ValueError as error:  # bad UTF-8 and bad JSON alike
        _refuse(f"{what} is not JSON ({error}): {(encoded or b'')[:80]!r}", error)
    if not isinstance(decoded, dict):
        _refuse(f"{what} is not a JSON object: {(encoded or b'')[:80]!r}")
    return decoded


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a number of float64")
    return number


def _refuse(found: str, cause: Exception | None = None) -> NoReturn:
    raise ChangelogError(
        f"The changelog cannot be read: {found}. Something else wrote to its topic, or it is damaged. Name the right "
        "output.changelog_topic, or start a new list: a new output.changelog_topic, state.dir and input.group."
    ) from cause
