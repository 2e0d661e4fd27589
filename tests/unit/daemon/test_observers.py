"""One protocol for all who watch a daemon: each hears each event, and none can change what is decided."""

from __future__ import annotations

from typing import get_args, get_type_hints

import pytest
from structlog.testing import capture_logs

from dugs_stream.daemon.log_lines import LogLines
from dugs_stream.daemon.observers import Observer, Observers
from dugs_stream.daemon.steps import RecoveryStep, Step
from dugs_stream.ops.metrics import Metrics
from dugs_stream.state.store import SnapshotResult


def fail(_step: object) -> None:
    """An observer that breaks."""
    raise RuntimeError("looked too hard")


def test_each_observer_hears_each_event_in_their_order() -> None:
    """Also one that comes later, from then on."""
    heard: list[tuple[str, Step | RecoveryStep]] = []
    observers = Observers(Observer(step_entered=lambda step: heard.append(("first", step))))
    observers.tell.step_entered(Step.POLL)
    observers.add(Observer(step_entered=lambda step: heard.append(("later", step))))

    observers.tell.step_entered(Step.JUDGE)

    assert heard == [("first", Step.POLL), ("first", Step.JUDGE), ("later", Step.JUDGE)]


def test_observer_that_fails_is_named_once_and_keeps_no_other_from_hearing() -> None:
    """Nothing of it reaches the daemon."""
    heard: list[Step | RecoveryStep] = []
    observers = Observers(Observer(step_entered=fail), Observer(step_entered=heard.append))

    with capture_logs() as lines:
        for step in (Step.POLL, Step.JUDGE):
            observers.tell.step_entered(step)

    assert heard == [Step.POLL, Step.JUDGE]
    assert [line["event"] for line in lines] == ["onlooker.failed"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_process_passes(error: type[BaseException]) -> None:
    """A signal may come while an observer is at work."""

    def leave(_step: object) -> None:
        raise error

    with pytest.raises(error):
        Observers(Observer(step_entered=leave)).tell.step_entered(Step.POLL)


def test_event_that_an_observer_has_no_method_for_passes_it_by() -> None:
    """Each watcher names those it needs and no other."""
    with capture_logs() as lines:
        Observers(object(), Observer()).tell.step_entered(Step.POLL)

    assert lines == []


@pytest.mark.parametrize("watcher", [Metrics, LogLines])
def test_method_named_after_an_event_takes_its_facts(watcher: type) -> None:
    """They meet by name, at run time: a renamed event or another signature shows here."""
    methods = {name: method for name, method in vars(watcher).items() if name[0] != "_" and callable(method)}
    events = {name: get_args(kind)[0] for name, kind in get_type_hints(Observer).items()}

    assert methods.keys() - events.keys() <= {
        "stage",
        "waiting",
        "built",
        "classes_known",
        "records_are_valued",
    }
    for name in methods.keys() & events.keys():
        *facts, _ = get_type_hints(methods[name]).values()
        assert [fact if fact is not object else SnapshotResult for fact in facts] == events[name], name
