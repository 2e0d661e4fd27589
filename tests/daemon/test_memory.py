"""Memory that runs out halves the micro-batch; no record is blamed for it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from dugs_stream.app import daemon as app_daemon
from dugs_stream.core.index.unique_index import UniqueIndex
from dugs_stream.daemon import replica
from dugs_stream.daemon.steps import Step
from dugs_stream.errors import ModelError
from tests.support.daemons.deployment import Deployment, npy_messages
from tests.support.daemons.in_thread import metric_of
from tests.support.models.out_of_memory import MEMORY


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """Of the model whose memory may run out; in the end it suffices."""
    monkeypatch.setattr(MEMORY, "failures", 0)
    return at_the_limit(tmp_path, records=32)


def at_the_limit(folder: Path, records: int, prefetch: int = 2) -> Deployment:
    """Micro-batches of so many records, and so many of them polled ahead."""
    return Deployment(
        folder,
        model={"factory": "tests.support.models.out_of_memory:tiny_at_the_limit"},
        input={"codec": "npy", "batch": {"records": records, "wait_ms": 50}, "prefetch": prefetch},
    )


def fails_in_second_batch(
    failures: int, error: type[Exception] = RuntimeError, batch: int = 2
) -> Callable[[Step], None]:
    """An `on_step`: so many forward passes in a row do not fit, from the second batch's first on, or a later one's.

    Before the first unique nothing is polled ahead, so nothing of that batch is computed when its poll begins.
    """
    polls = itertools.count(1)

    def on_step(step: Step) -> None:
        if step is Step.POLL and next(polls) == batch:
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


def test_index_on_a_device_gives_way_before_a_single_record_stops_the_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows there are a copy: float32 goes first, then bf16, and every record is decided."""
    monkeypatch.setattr(app_daemon, "index_device", lambda _settings, _device: "cpu")
    monkeypatch.setattr(replica, "UniqueIndex", partial(UniqueIndex, device_from=1))
    monkeypatch.setattr(MEMORY, "failures", 0)
    deployment = at_the_limit(tmp_path, records=1, prefetch=0)
    deployment.send(npy_messages(12))

    daemon = deployment.drain(on_step=fails_in_second_batch(2, batch=3))

    assert daemon.replica.index.report().device_format == "int8"
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
