"""Memory that runs out halves the micro-batch; no record is blamed for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dugs_stream.errors import ModelError
from tests.support.daemons.deployment import Deployment, npy_messages
from tests.support.daemons.in_thread import sample_of
from tests.support.models.out_of_memory import APPETITE, Appetite


@pytest.fixture
def appetite() -> Iterator[Appetite]:
    """The model's, back to nothing in the end."""
    yield APPETITE
    APPETITE.failures = APPETITE.passes_before = 0
    APPETITE.error = RuntimeError


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    """Of the hungry model."""
    return Deployment(
        tmp_path,
        model={"factory": "tests.support.models.out_of_memory:hungry"},
        input={"codec": "npy", "batch": {"records": 32, "wait_ms": 50}},
    )


@pytest.mark.parametrize("error", [RuntimeError, MemoryError])
def test_memory_that_runs_out_halves_the_batch_and_blames_no_record(
    deployment: Deployment, appetite: Appetite, error: type[Exception]
) -> None:
    """Twice in a row; every record is decided in the end, as if nothing had happened."""
    deployment.send(npy_messages(100))
    appetite.passes_before, appetite.failures, appetite.error = 12, 2, error

    daemon = deployment.drain()

    assert appetite.failures == 0
    assert sample_of(daemon, "dugs_out_of_memory_total") == 2
    assert sample_of(daemon, "dugs_batch_limit_records") < 32
    assert deployment.events("dead-letter") == []
    deployment.check()


def test_memory_that_never_suffices_stops_the_daemon_and_dead_letters_nothing(
    deployment: Deployment, appetite: Appetite
) -> None:
    """A single record that does not fit is no bad record: the message says what to lower."""
    deployment.send(npy_messages(20))
    appetite.passes_before, appetite.failures = 12, 10_000

    with pytest.raises(ModelError, match=r"lower gradient\.tile"):
        deployment.drain()

    appetite.failures = 0
    assert deployment.events("dead-letter") == []
    deployment.drain()
    deployment.check()
