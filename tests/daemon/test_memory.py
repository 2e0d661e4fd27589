"""Memory that runs out halves the micro-batch; no record is blamed for it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from dugs_stream.daemon.steps import Step
from dugs_stream.errors import ModelError
from tests.support.daemons.deployment import Deployment, npy_messages
from tests.support.daemons.in_thread import metric_of
from tests.support.models.out_of_memory import MEMORY


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """Of the model whose memory may run out; in the end it suffices."""
    monkeypatch.setattr(MEMORY, "failures", 0)
    return Deployment(
        tmp_path,
        model={"factory": "tests.support.models.out_of_memory:tiny_at_the_limit"},
        input={"codec": "npy", "batch": {"records": 32, "wait_ms": 50}},
    )


def fails_in_second_batch(failures: int, error: type[Exception] = RuntimeError) -> Callable[[Step], None]:
    """An `on_step`: so many forward passes in a row do not fit, from the second batch's first on.

    Before the first unique nothing is polled ahead, so nothing of that batch is computed when its poll begins.
    """
    polls = itertools.count(1)

    def on_step(step: Step) -> None:
        if step is Step.POLL and next(polls) == 2:
            MEMORY.failures, MEMORY.error = failures, error

    return on_step


@pytest.mark.parametrize("error", [RuntimeError, MemoryError])
def test_memory_that_runs_out_halves_the_batch_and_blames_no_record(
    deployment: Deployment, error: type[Exception]
) -> None:
    """Twice in a row; every record is decided in the end, as if nothing had happened."""
    deployment.send(npy_messages(100))

    daemon = deployment.drain(on_step=fails_in_second_batch(2, error))

    assert MEMORY.failures == 0
    assert metric_of(daemon, "dugs_out_of_memory_total") == 2
    assert metric_of(daemon, "dugs_batch_limit_records") < 32
    assert deployment.events("dead-letter") == []
    deployment.check()


def test_memory_that_never_suffices_stops_the_daemon_and_dead_letters_nothing(deployment: Deployment) -> None:
    """A single record that does not fit is no bad record: the message says what to lower."""
    deployment.send(npy_messages(50))

    with pytest.raises(ModelError, match=r"lower gradient\.tile"):
        deployment.drain(on_step=fails_in_second_batch(10_000))

    MEMORY.failures = 0
    assert deployment.events("dead-letter") == []
    deployment.drain()
    deployment.check()
