"""Moving target: the newest records of a topic, the older the less they count, projected as the stream's records are.

A state of it is a whole target, with a digest of its own: the mean of the newest `records` records of the topic, of
which each counts 2^(−age/half_life). The age is in records with a gradient that came later. A state depends on the
records alone, so two processes that have read the same records are at the same one, bit for bit. Only a record over which
memory or time ran out is left out by the one, and perhaps not by the other; then their digests differ.

Of several partitions each has the same share, and the order among them is that of their timestamps.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from dugs_stream.core.gradients.memory import is_out_of_memory
from dugs_stream.core.value import (
    NO_GRADIENT,
    Mean,
    NoDirectionError,
    half_life_weights,
    mean_gradient,
    with_direction,
)
from dugs_stream.pipeline.decode import BatchAbandonedError, DecodePool, PendingBatch
from dugs_stream.pipeline.project import RecordProjector
from dugs_stream.pipeline.projected import Projected, ProjectedBatch
from dugs_stream.pipeline.target import (
    NO_RECORDS,
    Target,
    digest_of,
    labels_not_counted,
    why_left_out,
)
from dugs_stream.pipeline.target_arrivals import Arrivals, share_of
from dugs_stream.records import Record, Skip

_PORTION_RECORDS = 64
"""Records projected at once, or a tile if that is less: the stream waits for no more."""

_LONGEST_SECONDS = 10.0
"""For which the stream may be held up at once. Then the portion is given up, and the next one is half as large."""

_LONGEST_ALONE_SECONDS = 60.0
"""For a record alone, which is left out then: longer than `input.decode.timeout_seconds` by default, and much less than
the log's patience with an owner that does not poll."""

_REST = 9.0
"""How much longer than it took the target rests, while the stream has records: a tenth of the time is the target's."""


@dataclass(frozen=True, slots=True)
class Course:
    """How a target moves: the settings that all its states have in common.

    source     the setting that names it
    records    at most so many of the newest
    half_life  in records: one this much older counts half
    """

    source: str
    records: int
    half_life: int
    mean: Mean

    @property
    def series(self) -> str:
        """A name for all its states."""
        return f"{self.source} half_life={self.half_life} records={self.records} mean={self.mean}"


@dataclass(frozen=True, slots=True)
class _Taken:
    """A record of the window; row is None for one without a gradient, which `why` says the reason of, if there is one."""

    timestamp_ms: int
    partition: int
    offset: int
    row: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)
    norm: float = 0.0
    digest: bytes = b""
    why: str = ""


@dataclass(slots=True)
class Listeners:
    """Who is told. All from the thread that projects.

    moved     of each new state; None and why, if there is no target now
    left_out  of records without a gradient: how many, and why the first has none
    """

    moved: Callable[[Target | None, str], None] = lambda _target, _why: None
    left_out: Callable[[int, str], None] = lambda _count, _why: None


class MovingTarget:
    """The window of records that are the target now. One thread at a time, that which projects."""

    def __init__(
        self,
        course: Course,
        fingerprint: str,
        decoding: DecodePool,
        projector: RecordProjector,
        arrivals: Arrivals,
    ) -> None:
        self.course = course
        self.arrivals = arrivals
        self.listeners = Listeners()
        self._salt = f"{fingerprint} {course.mean} half_life {course.half_life}".encode()
        self._decoding = decoding
        self._projector = projector
        self._window: dict[int, deque[_Taken]] = {}
        self._partitions = 1
        self._topics = 0
        self._most_at_once = _PORTION_RECORDS
        self._rests_until = 0.0
        self._rests_though_idle_until = 0.0
        self._pending: PendingBatch | None = None

    # -- what it holds ---------------------------------------------------------------------------------

    def begin_with(self, records: Iterable[Record], partitions: int) -> None:
        """Project these at once, before there is a stream. Raises ModelError if the model cannot be used."""
        self._partitions = partitions
        remaining = iter(records)
        while portion := tuple(islice(remaining, _PORTION_RECORDS)):
            self._project(portion, lambda: False, has_stream=False)

    def target(self) -> Target:
        """The state now. Raises NoDirectionError if no mean can be taken."""
        window = list(self._in_order())
        left_out, why = self.left_out
        kept = [(each, each.row) for each in window if each.row is not None]
        if not kept:
            raise NoDirectionError(NO_GRADIENT if window else NO_RECORDS)
        mean = mean_gradient(
            np.stack([row for _, row in kept]),
            np.array([each.norm for each, _ in kept]),
            self.course.mean,
            half_life_weights(len(kept), self.course.half_life),
        )
        digest = hashlib.sha256(self._salt)
        for each, _ in kept:
            digest.update(each.digest)
        newest = {partition: taken[-1].offset for partition, taken in sorted(self._window.items()) if taken}
        newest_ms = max(each.timestamp_ms for each in window)
        return Target(
            self.course.source,
            mean,
            f"sha256:{digest.hexdigest()}",
            left_out,
            why,
            self.course.series,
            newest,
            None if newest_ms < 0 else newest_ms,
        )

    @property
    def left_out(self) -> tuple[int, str]:
        """How many of the window's records have no gradient to take the mean of, and why the first has none."""
        reasons = [each.why for each in self._in_order() if each.why]
        return len(reasons), reasons[0] if reasons else ""

    def _in_order(self) -> Iterator[_Taken]:
        """The window, the oldest first."""
        records = [each for partition in sorted(self._window) for each in self._window[partition]]
        if self._partitions > 1:
            records.sort(key=lambda each: (each.timestamp_ms, each.partition, each.offset))
        yield from records

    # -- moving ----------------------------------------------------------------------------------------

    @property
    def has_news(self) -> bool:
        """Whether records wait to be taken in."""
        return self.arrivals.has_news

    def take_in(self, should_abandon: Callable[[], bool], *, is_idle: bool) -> bool:
        """Project a few records that came, and move; False if there were none, or if it is not its turn.

        While the stream has records the target rests nine times as long as it took. What takes too long, as with a codec
        that hangs, is given up and tried again in smaller portions, down to a record alone; after it the target rests while
        the stream is idle, too. Raises ModelError if the model or its device is broken; of anything else a record is left
        out.
        """
        began_at = monotonic()
        if began_at < (self._rests_though_idle_until if is_idle else self._rests_until):
            return False
        if self._pending is not None and self._pending.is_running:
            return False  # it was given up, and a codec hangs on it; the next would take another process from the stream
        portion = self.arrivals.take(min(self._most_at_once, self._projector.tile))
        is_another = portion.topics != self._topics
        if not portion.records and not is_another:
            return False
        if is_another:
            self._window = {}
        self._topics, self._partitions = portion.topics, portion.partitions
        try:
            self._project_in_time(portion.records, began_at, should_abandon)
        except BatchAbandonedError:
            self.arrivals.give_back(portion)
            self._most_at_once = max(1, len(portion.records) // 2)
            # A record alone that gave way to the stream has its turn next, or it would give way for ever.
            if not is_idle or len(portion.records) > 1:
                self._rest_since(began_at)
            return False
        self._keep_to_the_share()
        self._move()
        self._rest_since(began_at)
        seconds = monotonic() - began_at
        if seconds < _LONGEST_SECONDS / 4:
            self._most_at_once = min(_PORTION_RECORDS, 2 * self._most_at_once)
        elif seconds > _LONGEST_SECONDS:
            self._most_at_once = max(1, len(portion.records) // 2)
        return True

    def _rest_since(self, began_at: float) -> None:
        now = monotonic()
        self._rests_until = now + _REST * (now - began_at)
        if now - began_at > _LONGEST_SECONDS:
            # The next record of the stream would find the codec's processes busy again.
            self._rests_though_idle_until = self._rests_until

    def _project_in_time(
        self, records: Sequence[Record], began_at: float, should_abandon: Callable[[], bool]
    ) -> None:
        """Raises BatchAbandonedError if told to, or if several records take too long; one alone is left out then."""
        if not records:
            return
        is_alone = len(records) == 1
        longest = _LONGEST_ALONE_SECONDS if is_alone else _LONGEST_SECONDS

        def is_late() -> bool:
            return monotonic() - began_at > longest

        try:
            # What a probe finds wrong now is one record's doing: the stream's model is not to end for it.
            self._project(records, lambda: is_late() or should_abandon(), has_stream=True)
        except BatchAbandonedError:
            if not is_alone or not is_late():
                raise
            self._leave_out(records, f"it took longer than {_LONGEST_ALONE_SECONDS:g} s")

    def _project(
        self, records: Sequence[Record], should_abandon: Callable[[], bool], *, has_stream: bool
    ) -> None:
        try:
            with labels_not_counted(self._projector):
                self._pending = self._decoding.submit(records, is_aside=has_stream)
                decoded = self._pending.result(should_abandon)
                self._pending = None
                self._add(self._projector.project(decoded, should_abandon, model_is_proven=has_stream))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self._projector.release_memory()
            why = f"memory ran out over it and its neighbours ({type(error).__name__})"
            self._leave_out(records, why)

    def _add(self, batch: ProjectedBatch) -> None:
        has_direction = with_direction(batch.projection)
        reasons = []
        for record, outcome in zip(batch.records, batch.outcomes, strict=True):
            if isinstance(outcome, Projected) and has_direction[outcome.row]:
                row = batch.projection.vectors[outcome.row].copy()  # the batch's own array would stay as long
                norm = float(batch.projection.norms[outcome.row])
                self._push(_taken(record, row=row, norm=norm, digest=digest_of(record)))
                continue
            why = "" if isinstance(outcome, Skip) else why_left_out(record, outcome).rstrip(".")
            reasons += [why] if why else []
            self._push(_taken(record, why=why))
        if reasons:
            self.listeners.left_out(len(reasons), reasons[0])

    def _leave_out(self, records: Iterable[Record], why: str) -> None:
        left_out = [_taken(record, why=f"{record.id}: {why}") for record in records]
        for each in left_out:
            self._push(each)
        self.listeners.left_out(len(left_out), left_out[0].why)

    def _push(self, taken: _Taken) -> None:
        self._window.setdefault(taken.partition, deque()).append(taken)

    def _keep_to_the_share(self) -> None:
        share = share_of(self.course.records, self._partitions)
        for window in self._window.values():
            while len(window) > share:
                window.popleft()

    def _move(self) -> None:
        """Tell the state after what was taken in."""
        try:
            self.listeners.moved(self.target(), "")
        except NoDirectionError as error:
            self.listeners.moved(None, str(error))
        except MemoryError as error:
            self.listeners.moved(None, f"memory ran out over its mean ({type(error).__name__})")


def _taken(
    record: Record,
    *,
    row: NDArray[np.float32] | None = None,
    norm: float = 0.0,
    digest: bytes = b"",
    why: str = "",
) -> _Taken:
    timestamp_ms = -1 if record.timestamp_ms is None else record.timestamp_ms
    return _Taken(timestamp_ms, record.partition, record.offset, row, norm, digest, why)
