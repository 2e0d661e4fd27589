"""Follower of a target's topic: a thread that reads what comes on it, with patience, and never gets in the stream's way.

A log that does not answer, refuses or breaks, a topic that was deleted: it waits and tries again, and says so once. A
topic that was made anew is another one: what was read of the old one is void.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from threading import Event, Thread
from time import monotonic

import structlog

from dugs_stream.daemon.patience import patience
from dugs_stream.log.port import LogReader
from dugs_stream.pipeline.newest_records import newest_records
from dugs_stream.pipeline.target_arrivals import Arrivals

_log = structlog.get_logger("dugs")

_LOOK_SECONDS = 60.0
"""How often it looks whether the topic is the one that it was, and has the same partitions: no read tells that."""

_LEAVING_SECONDS = 5.0
"""How long the process waits for the thread at the end; one that a request holds up is left behind."""


class TargetFollower:
    """Reads a topic from these offsets on, and offers its records.

    most          records of the whole target
    next_offsets  by partition, the next one to read: as `newest_records` left them
    topic_id      of the topic that these are about; a topic made anew may have grown past them
    look_seconds  how often it looks at the topic itself
    """

    def __init__(
        self,
        open_reader: Callable[[], LogReader],
        topic: str,
        most: int,
        arrivals: Arrivals,
        next_offsets: Mapping[int, int],
        topic_id: str,
        look_seconds: float = _LOOK_SECONDS,
    ) -> None:
        self._open_reader = open_reader
        self._topic = topic
        self._most = most
        self._arrivals = arrivals
        self._next_offsets = dict(next_offsets)
        self._topic_id = topic_id
        self._look_seconds = look_seconds
        self._stopping = Event()
        self._is_awaited = False
        self._thread = Thread(target=self._run, name="dugs-target", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def close(self) -> None:
        """End the thread, or leave it behind if a request to the log holds it up."""
        self._stopping.set()
        self._thread.join(_LEAVING_SECONDS)

    def _run(self) -> None:
        patient = patience(self._stopping, lambda error: isinstance(error, Exception), self._say_awaited)
        while not self._stopping.is_set():
            patient(self._follow)

    def _follow(self) -> None:
        """Until it is time to look at the topic itself again; raises what reading raises."""
        with closing(self._open_reader()) as reader:
            self._find_place(reader)
            ends_at = monotonic() + self._look_seconds
            has_read = False

            def is_over() -> bool:
                nonlocal has_read
                if has_read:  # it is asked before the first request, too, which may fail
                    self._say_regained()
                has_read = True
                return self._stopping.is_set() or monotonic() > ends_at

            for record in reader.read(self._topic, follow=True, stop=is_over, start=self._next_offsets):
                self._arrivals.offer(record, self._stopping.is_set)
                self._next_offsets[record.partition] = record.offset + 1

    def _find_place(self, reader: LogReader) -> None:
        """Where to go on: of new partitions, and in all if the topic is another one, with the newest records."""
        topic_id = reader.topic_id(self._topic)
        _, ends = reader.bounds(self._topic)
        known = self._next_offsets
        is_another = topic_id != self._topic_id or any(
            offset > ends.get(partition, -1) for partition, offset in known.items()
        )
        if not is_another and set(ends) == set(known):
            return
        newest = newest_records(reader, self._topic, self._most, self._stopping.is_set)
        self._topic_id = newest.topic_id
        self._next_offsets = {**newest.next_offsets, **({} if is_another else known)}
        self._arrivals.topic_found(len(self._next_offsets), is_another=is_another)
        for record in newest.records:
            if is_another or record.partition not in known:
                self._arrivals.offer(record, self._stopping.is_set)

    def _say_awaited(self, error: BaseException) -> None:
        if not self._is_awaited:
            _log.error(
                "value.awaited",
                error=f"{type(error).__name__}: {error}",
                then="values go by what was read before",
            )
        self._is_awaited = True

    def _say_regained(self) -> None:
        if self._is_awaited:
            _log.info("value.regained", topic=self._topic)
        self._is_awaited = False
