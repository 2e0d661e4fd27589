"""Chained checksum over all rows of the changelog, in order.

Each link is SHA-256 over the link before it, the row's sequence number, its event and its vector, so that a row
that is missing, repeated, changed or moved changes every later link. Pure; the trailer carries the last link.
"""

from __future__ import annotations

import hashlib
import struct

from dugs_stream.canonical_json import canonical_json
from dugs_stream.records import ChangelogRow

NO_ROWS = "0" * 64
"""The checksum of a changelog without rows."""


def chain(previous: str, row: ChangelogRow) -> str:
    """The next link, 64 hex digits, after `previous` (NO_ROWS for the first row).

    SHA-256(previous digest ‖ sequence, int64 LE ‖ length of the event, uint64 LE ‖ event ‖ vector, float32 LE).
    """
    event = canonical_json(row.event)
    digest = hashlib.sha256(bytes.fromhex(previous))
    digest.update(struct.pack("<qQ", row.sequence, len(event)))
    digest.update(event)
    digest.update(row.vector.astype("<f4", copy=False).tobytes())
    return digest.hexdigest()
