"""Observers of the daemon: one protocol for metrics, status, service manager, log lines and page.

The daemon tells each event in one line and does not know who listens. An observer that raises is named once in the log
and changes nothing: it has no say in what is decided.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import structlog

from dugs_stream.changelog.replay import ChangelogHead
from dugs_stream.daemon.steps import RecoveryStep, Step
from dugs_stream.errors import ChangelogError, LogUnavailableError, StateError
from dugs_stream.log.port import Polled
from dugs_stream.ops.metrics import RecoveryReason, Role
from dugs_stream.pipeline.encode import EncodedBatch
from dugs_stream.state.files import LoadedState
from dugs_stream.state.store import SnapshotResult

_log = structlog.get_logger("dugs")


class Observer:
    """What there is to hear, in the order of a life; nothing here does anything. All from the daemon's own thread."""

    def step_entered(self, step: Step | RecoveryStep) -> None:
        """A step of the commit protocol or of recovery begins."""

    def alive(self) -> None:
        """The thread moves: told between two steps, and often while it waits."""

    def role_changed(self, role: Role) -> None:
        """Owner, standby or recovering, from now on."""

    def log_reached(self) -> None:
        """The log answers, and its topics are as they must be."""

    def log_unavailable(self, error: LogUnavailableError) -> None:
        """It does not; tried again until it does."""

    def ownership_voided(self, error: Exception) -> None:
        """What was polled or half written is void; recovery comes next."""

    def state_loaded(self, loaded: LoadedState) -> None:
        """The state folder was read; what was damaged comes from the changelog."""

    def state_outdated(self) -> None:
        """The state must be brought to the changelog's end before anything can be decided."""

    def head_moved(self, head: ChangelogHead) -> None:
        """The state stands here: after standing by, after recovery, and after each commit."""

    def recovered(self, reason: RecoveryReason, seconds: float, head: ChangelogHead) -> None:
        """The state is whole and the input is owned."""

    def records_lost(self, records: int) -> None:
        """Retention deleted input records before they were decided."""

    def lag_changed(self, topic: str, lag: dict[int, int], batch_records: int) -> None:
        """Records per partition that wait to be decided, and how many one micro-batch may take."""

    def offsets_compared(self, records: int) -> None:
        """Records between the group's offsets and the changelog's."""

    def batch_polled(self, polled: Polled) -> None:
        """A micro-batch is in hand until `batch_ended`."""

    def batch_judged(self, limit: int) -> None:
        """The micro-batch has its verdicts; the next may hold this many records."""

    def batch_halved(self, records: int, limit: int, error: Exception) -> None:
        """It did not fit into memory; if it had more than one record, it is polled again, at most `limit` at a time."""

    def batch_committed(self, batch: EncodedBatch, head: ChangelogHead) -> None:
        """It is committed, and is the state."""

    def batch_ended(self) -> None:
        """It is over, committed or not."""

    def snapshot_written(self, snapshot: SnapshotResult) -> None:
        """The state folder holds all that is known."""

    def snapshot_failed(self, error: StateError) -> None:
        """The state folder could not be written."""

    def refused(self, error: ChangelogError, seconds: float) -> None:
        """The daemon does not go on; it stays up this long to say so."""

    def shutting_down(self) -> None:
        """The life is over and is being tidied up."""


class Observers(Observer):
    """Several observers as one, told in their order."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = list(observers)
        self._failed: set[int] = set()
        for event in vars(Observer):
            if not event.startswith("_"):
                setattr(self, event, partial(self._tell, event))

    def add(self, observer: Observer) -> None:
        """Tell this one too, from now on."""
        self._observers.append(observer)

    def _tell(self, event: str, *facts: Any) -> None:
        for observer in self._observers:
            try:
                getattr(observer, event)(*facts)
            except Exception as error:  # noqa: BLE001 (an observer has no say in what is decided)
                if id(observer) not in self._failed:
                    _log.exception("onlooker.failed", error=str(error), then="deciding goes on")
                self._failed.add(id(observer))
