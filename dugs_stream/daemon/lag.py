"""Consumer lag, and whether the group's offsets still agree with the changelog.

The owner looks now and then; a standby looks at the lag too, since an owner that hangs cannot tell how far it falls
behind. Nothing here decides anything; what cannot be asked now is asked later.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic

import structlog

from dugs_stream.daemon.observers import Observer
from dugs_stream.errors import LogError
from dugs_stream.log.port import Log

_log = structlog.get_logger("dugs")

# The lag costs a question to the broker; a dashboard asks every few seconds at most.
_LAG_SECONDS = 1.0
# A standby's question delays its takeover by as long as the answer takes, and no alert depends on single seconds.
_STANDBY_LAG_SECONDS = 5.0
# Kafka's engine opens a connection of its own to ask for the group's offsets: a fifth of a second in every minute.
_OFFSETS_SECONDS = 60.0
# Kafka shows a commit's offsets some milliseconds after it returned: ask again before it counts for a minute.
_ASK_AGAIN_SECONDS = 2.0


class LagMonitor:
    """Looks at the log's ends and offsets at their own pace. One thread, the log's."""

    def __init__(self, log: Log, topic: str, batch_records: int, tell: Observer) -> None:
        self._log = log
        self._topic = topic
        self._batch_records = batch_records
        self._tell = tell
        self._lag_due_at = 0.0
        self._offsets_due_at = monotonic() + _OFFSETS_SECONDS

    def look(self, decided: Mapping[int, int]) -> None:
        """The owner's look, right after a poll. Raises what the log raises."""
        now = monotonic()
        if now >= self._lag_due_at:
            self._lag_due_at = now + _LAG_SECONDS
            self._show_lag(self._log.positions())
        if now >= self._offsets_due_at:
            self._compare_offsets(decided)

    def look_as_standby(self, decided: Mapping[int, int]) -> None:
        """What the owner has decided, as the changelog tells, held against the input's ends."""
        now = monotonic()
        if now < self._lag_due_at or not decided:
            return
        self._lag_due_at = now + _STANDBY_LAG_SECONDS
        self._show_lag(decided)

    def _show_lag(self, positions: Mapping[int, int]) -> None:
        _, ends = self._log.input_bounds()
        lag = {partition: max(0, end - positions.get(partition, end)) for partition, end in ends.items()}
        self._tell.lag_changed(self._topic, lag, self._batch_records)

    def _compare_offsets(self, decided: Mapping[int, int]) -> None:
        """A group's offsets may be moved by hand while an owner lives; the next recovery would refuse them."""
        self._offsets_due_at = monotonic() + _OFFSETS_SECONDS
        try:
            committed = self._log.committed_offsets()
        except LogError as error:
            _log.debug("offsets.not_compared", error=str(error))
            return
        both = committed.keys() & decided.keys()
        records = sum(abs(committed[partition] - decided[partition]) for partition in both)
        self._tell.offsets_compared(records)
        if records:
            self._offsets_due_at = monotonic() + _ASK_AGAIN_SECONDS
