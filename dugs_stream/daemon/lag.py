"""Consumer lag, what open transactions hide, and whether the group's offsets still agree with the changelog.

The owner looks now and then; a standby looks at the lag too, since an owner that hangs cannot tell how far it falls
behind. Nothing here decides anything; what cannot be asked now is asked later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
# Longer than a producer keeps a transaction open that writes as it goes; its own timeout is a minute by default.
_HELD_BACK_SECONDS = 60.0


@dataclass(slots=True)
class _HeldBack:
    """A partition's end that an open transaction keeps where it is, and since when this was seen."""

    end: int
    since: float
    is_told: bool = False


class LagMonitor:
    """Looks at the log's ends and offsets at their own pace. One thread, the log's."""

    def __init__(self, log: Log, topic: str, batch_records: int, tell: Observer) -> None:
        self._log = log
        self._topic = topic
        self._batch_records = batch_records
        self._tell = tell
        self._lag_due_at = 0.0
        self._offsets_due_at = monotonic() + _OFFSETS_SECONDS
        self._held: dict[int, _HeldBack] = {}

    def look(self, decided: Mapping[int, int], in_flight: Callable[[], Mapping[int, int]] = dict) -> None:
        """The owner's look, right after a poll. Raises what the log raises.

        in_flight  per partition, the first offset that is polled and not decided; asked if the look is due
        """
        now = monotonic()
        if now >= self._lag_due_at:
            self._lag_due_at = now + _LAG_SECONDS
            self._show_held_back(self._show_lag({**self._log.positions(), **in_flight()}), now)
        if now >= self._offsets_due_at:
            self._compare_offsets(decided)

    def look_as_standby(self, decided: Mapping[int, int]) -> None:
        """What the owner has decided, as the changelog tells, held against the input's ends."""
        now = monotonic()
        if now < self._lag_due_at or not decided:
            return
        self._lag_due_at = now + _STANDBY_LAG_SECONDS
        ends = self._show_lag(decided)
        if self._held:  # it was the owner; what is hidden is the next one's to tell
            self._held = {}
            self._tell.input_held_back(self._topic, dict.fromkeys(ends, 0.0))

    def _show_lag(self, positions: Mapping[int, int]) -> Mapping[int, int]:
        """Returns the ends."""
        self._tell.log_awaited("the input's ends")
        _, ends = self._log.input_bounds()
        self._tell.log_awaited(None)
        lag = {partition: max(0, end - positions.get(partition, end)) for partition, end in ends.items()}
        self._tell.lag_changed(self._topic, lag, self._batch_records)
        return ends

    def _show_held_back(self, ends: Mapping[int, int], now: float) -> None:
        """Records behind an open transaction are not in the lag, since nobody may read them; but somebody should know."""
        written = self._log.written_ends()
        before, self._held = self._held, {}
        for partition, end in ends.items():
            if written.get(partition, end) > end:
                known = before.get(partition)
                # At another end it is another transaction: producers that use them one after the other hold nothing up.
                self._held[partition] = _HeldBack(end, now) if known is None or known.end != end else known
        seconds = {each: now - self._held[each].since if each in self._held else 0.0 for each in ends}
        self._tell.input_held_back(self._topic, seconds)
        for partition, held in self._held.items():
            if seconds[partition] >= _HELD_BACK_SECONDS and not held.is_told:
                held.is_told = True
                self._warn(partition, held.end, written[partition])
        for partition, held in before.items():
            if held.is_told and self._held.get(partition) != held:
                _log.info(
                    "input.released", topic=self._topic, partition=partition, offset=ends.get(partition)
                )

    def _warn(self, partition: int, end: int, written: int) -> None:
        _log.warning(
            "input.held_back",
            topic=self._topic,
            partition=partition,
            offset=end,
            hidden=written - end,
            why="an open transaction of another program hides everything from this offset on",
            then=f"`kafka-transactions.sh --bootstrap-server HOST:PORT find-hanging --topic {self._topic}` finds it; "
            "it ends with its producer's commit, abort or timeout, or by `kafka-transactions.sh abort`",
        )

    def remark_held_back(self) -> None:
        """At the end of a drain: what is hidden was not decided."""
        _, ends = self._log.input_bounds()
        written = self._log.written_ends()
        for partition, end in ends.items():
            if written.get(partition, end) > end:
                self._warn(partition, end, written[partition])

    def _compare_offsets(self, decided: Mapping[int, int]) -> None:
        """A group's offsets may be moved by hand while an owner lives; the next recovery would refuse them."""
        self._offsets_due_at = monotonic() + _OFFSETS_SECONDS
        self._tell.log_awaited("the group's offsets")
        try:
            committed = self._log.committed_offsets()
        except LogError as error:
            _log.debug("offsets.not_compared", error=str(error))
            return
        finally:
            self._tell.log_awaited(None)
        both = committed.keys() & decided.keys()
        records = sum(abs(committed[partition] - decided[partition]) for partition in both)
        self._tell.offsets_compared(records)
        if records:
            self._offsets_due_at = monotonic() + _ASK_AGAIN_SECONDS
