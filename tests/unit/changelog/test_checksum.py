"""One checksum for all rows in order."""

from __future__ import annotations

import numpy as np

from dugs_stream.changelog.checksum import NO_ROWS, chain
from dugs_stream.records import ChangelogRow, SequenceNumber

ROW = ChangelogRow(SequenceNumber(3), {"id": "a", "label": 1}, np.array([0.6, 0.8], dtype=np.float32))


def test_chain_is_pinned() -> None:
    """The checksum is part of the changelog's format: a change of it is a break."""
    assert chain(NO_ROWS, ROW) == "3d3d30974873d8c042cba6163551a3042fc93d3324a755ac784891df38a11840"


def test_chain_of_a_changed_row_differs() -> None:
    """The checksum covers the number, the event and every bit of the vector."""
    changed = [
        ChangelogRow(SequenceNumber(4), ROW.event, ROW.vector),
        ChangelogRow(ROW.sequence, {"id": "a", "label": 2}, ROW.vector),
        ChangelogRow(ROW.sequence, ROW.event, np.nextafter(ROW.vector, np.float32(1))),
        ChangelogRow(ROW.sequence, ROW.event, ROW.vector[::-1]),
    ]
    for row in changed:
        assert chain(NO_ROWS, row) != chain(NO_ROWS, ROW), row


def test_chain_depends_on_what_came_before() -> None:
    """Rows that are swapped or left out change all that follows."""
    assert chain(chain(NO_ROWS, ROW), ROW) != chain(NO_ROWS, ROW)


def test_chain_does_not_depend_on_the_order_of_an_events_keys() -> None:
    """An event read back from the log hashes as it did when it was written."""
    turned = ChangelogRow(ROW.sequence, dict(reversed(list(ROW.event.items()))), ROW.vector)

    assert chain(NO_ROWS, turned) == chain(NO_ROWS, ROW)
