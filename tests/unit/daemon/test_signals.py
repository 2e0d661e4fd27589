"""Stopping by signals: asked once politely, asked twice at once, and everything put back afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from types import FrameType

import pytest

from dugs_stream.daemon.signals import Stopping, signals_as_flags
from tests.support.waiting import wait_until


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_first_signal_asks_and_does_not_interrupt(number: signal.Signals) -> None:
    """The micro-batch in hand goes on, and waiters on `event` are woken; Ctrl-C is no KeyboardInterrupt here."""
    stopping = Stopping()
    assert not stopping.requested

    with signals_as_flags(stopping):
        os.kill(os.getpid(), number)
        assert stopping.event.wait(5)

    assert stopping.requested
    assert not stopping.is_impatient


def test_handlers_before_are_put_back_whatever_happens() -> None:
    """The house is left as it was found, after an error too."""
    heard: list[int] = []

    def hear(number: int, _frame: FrameType | None) -> None:
        heard.append(number)

    interrupts = signal.getsignal(signal.SIGINT)
    before = signal.signal(signal.SIGTERM, hear)
    try:
        with pytest.raises(RuntimeError), signals_as_flags(Stopping()):
            raise RuntimeError("in the middle")
        os.kill(os.getpid(), signal.SIGTERM)
        wait_until(lambda: heard, 5)
    finally:
        signal.signal(signal.SIGTERM, before)

    assert heard == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGINT) is interrupts


def test_patience_ends_after_the_grace() -> None:
    """Counted from the first request; asking again does not start it anew."""
    stopping = Stopping(grace_seconds=0.05)
    stopping.request()

    assert not stopping.is_impatient
    wait_until(lambda: stopping.request() or stopping.is_impatient, 5)


@pytest.mark.parametrize("second", ["SIGTERM", "SIGINT"])
def test_second_signal_leaves_at_once_with_one(second: str) -> None:
    """Even out of code that never looks up, and without any clean-up."""
    script = (
        "import os, signal\n"
        "from dugs_stream.daemon.signals import Stopping, signals_as_flags\n"
        "try:\n"
        "    with signals_as_flags(Stopping()):\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        f"        os.kill(os.getpid(), signal.{second})\n"
        "        print('still here')\n"
        "finally:\n"
        "    print('clean-up')\n"
    )

    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", "")
