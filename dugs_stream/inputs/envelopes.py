"""Envelopes around a sample: frames of a schema registry, and change events of Debezium.

They are taken off before label and sample are read. A Debezium delete, and the tombstone behind it, hold no sample: they
are skipped. Sources: Confluent's wire format (0, schema id in four bytes, payload); Debezium, "Change event values".
Pure.
"""

from __future__ import annotations

import struct
from typing import Any

from dugs_stream.inputs.codec import undecodable
from dugs_stream.inputs.numbers import keys_of
from dugs_stream.records import Rejection, Skip

_FRAME = struct.Struct(">bI")
_WITHOUT_ROW = {"d", "t", "m", None}
"""Operations whose events hold no row: delete, truncate, message; older forms name none."""

_FLAT_DELETE = "__deleted"


def frame_of(value: bytes) -> int | None:
    """The schema id of a frame at the beginning of the value; None if there is none."""
    if len(value) < _FRAME.size or value[0] != 0:
        return None
    return int(_FRAME.unpack_from(value)[1])


def without_frame(value: bytes) -> bytes | Rejection:
    """The payload behind a schema registry's frame."""
    if frame_of(value) is None:
        return undecodable(
            f"no frame of a schema registry (input.envelope): starts with {value[: _FRAME.size]!r}, expected a zero byte "
            "and a schema id of four"
        )
    return value[_FRAME.size :]


def row_after(document: Any) -> Any:
    """The row after a Debezium change, of a value with or without its schema; Skip or the Rejection instead of it.

    Of MongoDB the row is a text that holds JSON, as the connector writes it.
    """
    change = document
    if isinstance(document, dict) and "payload" in document:
        change = document["payload"]  # beside its schema
    if change is None:
        return Skip()  # a tombstone
    if isinstance(change, dict) and _FLAT_DELETE in change:  # the row itself, by ExtractNewRecordState
        return Skip() if change[_FLAT_DELETE] in {True, "true"} else change
    if not isinstance(change, dict) or not {"after", "op"} & change.keys():
        found = f"an object with {keys_of(change)}" if isinstance(change, dict) else type(change).__name__
        return undecodable(
            f"no Debezium event (input.envelope): found {found}, expected payload.after or after"
        )
    after, operation = change.get("after"), change.get("op")
    if after is None and operation not in _WITHOUT_ROW:
        return undecodable(
            f"a Debezium event of operation {str(operation)[:20]!r} without a row: payload.after is null"
        )
    return Skip() if after is None else after
