"""Observers of the daemon: one protocol for metrics, status, service manager, log lines and page.

The daemon tells each event in one line and does not know who listens. An observer hears the events that it has a
method for. One that raises is named once in the log and changes nothing: it has no say in what is decided.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import Any

import structlog

from dugs_stream.changelog.replay import ChangelogHead
from dugs_stream.core.index.report import IndexReport
from dugs_stream.daemon.log_lines import LogLines
from dugs_stream.daemon.steps import RecoveryStep, Step
from dugs_stream.errors import DugsError, LogUnavailableError, StateError, StreamRejectedError
from dugs_stream.log.port import Polled
from dugs_stream.ops.metrics import DamagedKind, Metrics, RecoveryReason, Role
from dugs_stream.ops.status import Status
from dugs_stream.ops.systemd import ServiceNotices
from dugs_stream.records import JudgedRecord
from dugs_stream.state.store import SnapshotResult

_log = structlog.get_logger("dugs")

# Steps that are nothing but waiting for the log; a poll waits for records too.
_WAITS_FOR_THE_LOG = frozenset({Step.BEGIN, Step.PUBLISH, Step.OFFSETS, Step.COMMIT})


def _ignore(*_facts: object) -> None:
    """What an observer does with an event that it does not need."""


@dataclass(frozen=True, slots=True)
class Observer:
    """What to do at each event, in the order of a life; nothing by default. All from the daemon's own thread."""

    step_entered: Callable[[Step | RecoveryStep], None] = _ignore
    """A step of the commit protocol or of recovery begins."""
    alive: Callable[[], None] = _ignore
    """The thread moves: told between two steps, and often while it waits."""
    role_changed: Callable[[Role], None] = _ignore
    """Owner, standby or recovering, from now on."""
    log_awaited: Callable[[str | None], None] = _ignore
    """The log is asked for this outside of a step; None: it has answered. A step's own waits are not told."""
    log_reached: Callable[[], None] = _ignore
    """The log answers, and its topics are as they must be."""
    log_unavailable: Callable[[LogUnavailableError], None] = _ignore
    """It does not; tried again until it does."""
    ownership_voided: Callable[[Exception], None] = _ignore
    """What was polled or half written is void; recovery comes next."""
    state_damaged: Callable[[DamagedKind, str], None] = _ignore
    """A file of the state folder is damaged; what it held comes from the changelog."""
    state_outdated: Callable[[], None] = _ignore
    """The state must be brought to the changelog's end before anything can be decided."""
    head_moved: Callable[[ChangelogHead], None] = _ignore
    """The state stands here: after standing by, after recovery, and after each commit."""
    recovered: Callable[[RecoveryReason, float, ChangelogHead], None] = _ignore
    """The state is whole and the input is owned."""
    records_lost: Callable[[int], None] = _ignore
    """Retention deleted input records before they were decided."""
    lag_changed: Callable[[str, dict[int, int], int], None] = _ignore
    """Records per partition that wait to be decided, and how many one micro-batch may take."""
    input_held_back: Callable[[str, Mapping[int, float]], None] = _ignore
    """Per partition, the seconds for which one open transaction of another program has hidden records; 0: nothing."""
    offsets_compared: Callable[[int], None] = _ignore
    """Records between the group's offsets and the changelog's."""
    batch_polled: Callable[[Polled], None] = _ignore
    """A micro-batch is in hand until `batch_ended`."""
    batch_judged: Callable[[int], None] = _ignore
    """The micro-batch has its verdicts; the next may hold this many records."""
    batch_halved: Callable[[int, int, str], None] = _ignore
    """It did not fit into memory; if it had more than one record, it is polled again, at most `limit` at a time."""
    batch_committed: Callable[[Sequence[JudgedRecord], ChangelogHead], None] = _ignore
    """It is committed, and is the state."""
    model_measured: Callable[[int, int, int], None] = _ignore
    """Of the first labels the model itself would give so many, of so many, with so many classes."""
    batch_ended: Callable[[], None] = _ignore
    """It is over, committed or not."""
    index_reported: Callable[[IndexReport], None] = _ignore
    """What the index holds and how it answers, now and then."""
    snapshot_written: Callable[[SnapshotResult], None] = _ignore
    """The state folder holds all that is known."""
    snapshot_failed: Callable[[StateError], None] = _ignore
    """The state folder could not be written."""
    refused: Callable[[DugsError, float], None] = _ignore
    """The daemon does not go on; it stays up this long to say so."""
    shutting_down: Callable[[], None] = _ignore
    """The life is over and is being tidied up."""


class Observers:
    """All observers of a daemon; `tell` is the one that the daemon speaks to, and tells them in their order."""

    def __init__(self, *observers: object) -> None:
        self._observers = list(observers)
        self._failed: set[int] = set()
        self.tell = Observer(**{event.name: partial(self._tell, event.name) for event in fields(Observer)})

    def add(self, observer: object) -> None:
        """Tell this one too, from now on."""
        self._observers.append(observer)

    def _tell(self, event: str, *facts: Any) -> None:
        for observer in self._observers:
            try:
                getattr(observer, event, _ignore)(*facts)
            except Exception as error:  # noqa: BLE001 (an observer has no say in what is decided)
                if id(observer) not in self._failed:
                    _log.exception("onlooker.failed", error=str(error), then="deciding goes on")
                self._failed.add(id(observer))


class Watchers(Observers):
    """What watches every daemon; `metrics` and `status` are what its HTTP server shows."""

    def __init__(self, metrics: Metrics, status: Status, notices: ServiceNotices, *others: object) -> None:
        super().__init__(metrics, _watch_by_status(status, notices), LogLines(), *others)
        self.metrics = metrics
        self.status = status


def _watch_by_status(status: Status, notices: ServiceNotices) -> Observer:
    """On /readyz what is missing, on /api/status what is true, and to the service manager that the thread moves."""

    def lacks_log(error: Exception) -> None:
        if isinstance(error, LogUnavailableError):
            status.lacks("log", f"{error.cause}: {error}")

    def head_moved(head: ChangelogHead) -> None:
        status.has("state")
        status.learned(
            uniques=head.uniques,
            checksum=head.checksum,
            changelog_position=head.position,
            next_offsets=dict(head.next_offsets),
        )

    def shutting_down() -> None:
        status.lacks("state", "shutting down")
        notices.stopping("shutting down: last snapshot")

    def step_entered(step: Step | RecoveryStep) -> None:
        notices.alive(status)
        status.awaits_log(step if step in _WAITS_FOR_THE_LOG else None)

    return Observer(
        step_entered=step_entered,
        log_awaited=status.awaits_log,
        alive=lambda: notices.alive(status),
        role_changed=status.role_changed,
        log_reached=lambda: status.has("log"),
        log_unavailable=lacks_log,
        ownership_voided=lacks_log,
        state_outdated=lambda: status.lacks("state", "being recovered from the changelog"),
        head_moved=head_moved,
        lag_changed=lambda _topic, lag, _batch_records: status.learned(lag=sum(lag.values())),
        model_measured=lambda right, records, _classes: status.learned(
            accuracy={"right": right, "records": records}
        ),
        index_reported=lambda report: status.learned(index=asdict(report)),
        refused=lambda error, _seconds: status.lacks(
            "input" if isinstance(error, StreamRejectedError) else "changelog", str(error)
        ),
        shutting_down=shutting_down,
    )
