"""One protocol for all who watch a daemon: each hears each event, and none can change what is decided."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from dugs_stream.daemon.observers import Observer, Observers
from dugs_stream.daemon.steps import RecoveryStep, Step
from dugs_stream.daemon.watchers import StepHook

EVENTS = [event for event in vars(Observer) if not event.startswith("_")]


class Hears(Observer):
    """Remembers the steps."""

    def __init__(self) -> None:
        self.steps: list[Step | RecoveryStep] = []

    def step_entered(self, step: Step | RecoveryStep) -> None:
        """Keep it."""
        self.steps.append(step)


def fail(_step: object) -> None:
    """An observer that breaks."""
    raise RuntimeError("looked too hard")


def test_each_observer_hears_each_event_in_their_order() -> None:
    """Also one that comes later, from then on."""
    first, later = Hears(), Hears()
    observers = Observers(first)
    observers.step_entered(Step.POLL)
    observers.add(later)

    observers.step_entered(Step.JUDGE)

    assert (first.steps, later.steps) == ([Step.POLL, Step.JUDGE], [Step.JUDGE])


def test_observer_that_fails_is_named_once_and_keeps_no_other_from_hearing() -> None:
    """Nothing of it reaches the daemon."""
    hears = Hears()
    observers = Observers(StepHook(fail), hears)

    with capture_logs() as lines:
        for step in (Step.POLL, Step.JUDGE):
            observers.step_entered(step)

    assert hears.steps == [Step.POLL, Step.JUDGE]
    assert [line["event"] for line in lines] == ["onlooker.failed"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_process_passes(error: type[BaseException]) -> None:
    """A signal may come while an observer is at work."""

    def leave(_step: object) -> None:
        raise error

    with pytest.raises(error):
        Observers(StepHook(leave)).step_entered(Step.POLL)


@pytest.mark.parametrize("event", EVENTS)
def test_every_event_reaches_the_observers_through_the_one_fan_out(event: str) -> None:
    """One that is added to the protocol needs no line elsewhere."""
    assert event in vars(Observers())
